//! The Hessian of the semi-dual, times −ε: diag(own) − Pᵀ·diag(1/r)·P with r the row sums, by its products alone.
//!
//! Where a marginal bends, f answers to a change of g by ρ/(ρ + ε) of what it would, and the columns yield by ε/ρ of
//! what they should be.

use super::direct;
use super::sparse::{DENSEST, Sparse};
use super::state::{State, Storage, scaling};
use crate::error::Result;

/// ε over the range of the costs above which no plan is sparse enough to look.
const SPARSE: f64 = 0.02;

/// What is known of a Hessian besides the plan: diag(own) − Pᵀ·diag(1/r)·P.
pub struct Hessian {
    own: Vec<f64>,
    /// Its diagonal.
    pub diagonal: Vec<f64>,
}

impl State<'_> {
    /// Gathers the plan for products with the Hessian, if it is sparse.
    fn gather(&mut self, damping: f64) -> Result<()> {
        if self.may_be_sparse && self.epsilon <= SPARSE * self.range {
            self.sparse = self.entries(damping, DENSEST)?;
            self.may_be_sparse = self.sparse.is_some();
        }
        Ok(())
    }

    /// The entries of the plan that this damping does not hide, if they are no more than this share.
    fn entries(&self, damping: f64, densest: f64) -> Result<Option<Sparse>> {
        let (a, bend) = (&self.a, self.bend(0));
        let rows = |z: &[f64]| -> Vec<f64> {
            let each = a.iter().zip(z).zip(&self.dots);
            each.map(|((&a, &z), &dot)| bend * scaling(a, bend, z, dot) * dot).collect()
        };
        let (plan, v, dots, kept) = (&self.plan, &self.v, &self.dots, (1e-3 * damping).min(1e-9));
        match &self.storage {
            Storage::None => Ok(None),
            Storage::Narrow(kernel) => Sparse::gather(kernel, plan, v, dots, rows(&kernel.z), kept, densest),
            Storage::Wide(kernel) => Sparse::gather(kernel, plan, v, dots, rows(&kernel.z), kept, densest),
        }
    }

    /// The solution w of Hessian·w = right by a factorisation, if the problem is small enough for one.
    pub fn factorised(&mut self, damping: f64, right: &[f64]) -> Result<Option<Vec<f64>>> {
        if right.len() > direct::MOST {
            return Ok(None);
        }
        self.sweeps += 1;
        let gathered = if self.sparse.is_some() { None } else { self.entries(damping, 1.0)? };
        let own = self.own(damping);
        Ok(self.sparse.as_ref().or(gathered.as_ref()).map(|sparse| direct::solve(sparse, &own, self.mass, right)))
    }

    /// The diagonal that the plan is taken from.
    fn own(&self, damping: f64) -> Vec<f64> {
        let reach = self.reaches[1];
        let yielding = if reach.is_finite() { self.epsilon / reach } else { 0.0 };
        let both = self.columns.iter().zip(&self.wanted);
        both.map(|(sum, wanted)| (1.0 + damping) * sum + yielding * wanted).collect()
    }

    /// The Hessian of the semi-dual at the point, times −ε.
    pub fn hessian(&mut self, damping: f64) -> Result<Hessian> {
        self.sweeps += 1;
        self.gather(damping)?;
        let (a, bend, dots) = (&self.a, self.bend(0), &self.dots);
        let mut squares = vec![0.0; self.b.len()];
        if let Some(sparse) = &self.sparse {
            sparse.diagonal(&self.plan, &mut squares)?;
        } else {
            let c = |z: &[f64], i: usize| bend * scaling(a[i], bend, z[i], dots[i]) / dots[i].max(1e-300);
            match &self.storage {
                Storage::None => {}
                Storage::Narrow(kernel) => kernel.squares(&self.plan, &mut squares, |i, _| c(&kernel.z, i))?,
                Storage::Wide(kernel) => kernel.squares(&self.plan, &mut squares, |i, _| c(&kernel.z, i))?,
            }
            for (square, v) in squares.iter_mut().zip(&self.v) {
                *square *= v * v;
            }
        }
        let own = self.own(damping);
        let each = own.iter().zip(&squares).zip(&self.columns);
        // Where a column is one row's alone the difference is all rounding: of what the kernel is stored in.
        let least = if matches!(self.storage, Storage::Wide(_)) { 1e-14 } else { 1e-7 };
        let diagonal = each.map(|((own, square), sum)| (own - self.mass * square).max(least * sum)).collect();
        Ok(Hessian { own, diagonal })
    }

    /// Its product with w; `out` receives it.
    pub fn product(&mut self, hessian: &Hessian, w: &[f64], out: &mut [f64]) -> Result<()> {
        self.sweeps += 1;
        let (a, bend, dots) = (&self.a, self.bend(0), &self.dots);
        // Of size 1 on the way: small w would make subnormal products.
        let size = w.iter().fold(0.0f64, |most, w| most.max(w.abs()));
        let size = if size > 0.0 && size.is_finite() { size } else { 1.0 };
        if let Some(sparse) = &self.sparse {
            sparse.product(&self.plan, w, out)?;
        } else {
            let vw: Vec<f64> = self.v.iter().zip(w).map(|(v, w)| v * (w / size)).collect();
            let mut found = vec![0.0; dots.len()];
            let c =
                |z: &[f64], i: usize, dot: f64| bend * scaling(a[i], bend, z[i], dots[i]) * dot / dots[i].max(1e-300);
            match &self.storage {
                Storage::None => {}
                Storage::Narrow(kernel) => {
                    kernel.sweep(&self.plan, &vw, &mut found, out, |i, dot| c(&kernel.z, i, dot))?;
                }
                Storage::Wide(kernel) => {
                    kernel.sweep(&self.plan, &vw, &mut found, out, |i, dot| c(&kernel.z, i, dot))?;
                }
            }
            for (out, v) in out.iter_mut().zip(&self.v) {
                *out *= v * size;
            }
        }
        for ((out, own), w) in out.iter_mut().zip(&hessian.own).zip(w) {
            *out = own * w - self.mass * *out;
        }
        Ok(())
    }
}

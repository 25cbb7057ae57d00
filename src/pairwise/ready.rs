//! A row, made ready once for every row it will meet: checked, its normaliser known, readable as probabilities, their
//! logarithms or their roots in float64.

use crate::error::Result;
use crate::linear::Totals;
use crate::order::peak;
use crate::prepare::Side;
use crate::rows::{BLOCK, Row, Scratch};
use crate::simd::{Element, Kernel, Simd, Sum, Vector, dispatch, math, total};

/// Stands for log 0. Times a probability of 0 it is 0; times any other it exceeds every sum of logarithms by far.
pub const ABSENT: f64 = -1e300;

/// Smallest probability beside 0: any times [`ABSENT`] is below -1e80, and as a weight none counts. As a logarithm.
const LOWEST: f64 = -500.0;

/// The same in a root.
const LOWEST_ROOT: f64 = -350.0;

/// Logarithms of probabilities of a tame row lie above this: their sums cannot be mistaken for [`ABSENT`].
const DEEPEST: f64 = -1e60;

/// Weights of a tame row, relative to their total.
const LEAST: f64 = 1e-290;

/// What a row is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// p.
    Prob,
    /// log p, [`ABSENT`] for p = 0.
    Log,
    /// √p.
    Root,
}

/// How numbers become probabilities.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Multiplied by a power of two, then by the reciprocal of the total; also its logarithm.
    Linear { scale: f64, inverse: f64, log_total: f64 },
    /// e^(x − top), then by the reciprocal of the mass; also its logarithm.
    Logs { top: f64, inverse: f64, log_mass: f64 },
    /// There is no distribution.
    Nothing,
}

/// Reads numbers of a row as float64; what float32 lanes hold is read in them, and widened.
pub struct Reader {
    narrow: Scratch<f32>,
    wide: Scratch<f64>,
}

impl Reader {
    /// With buffers that are written when a row first needs them.
    #[inline(always)]
    pub fn new() -> Self {
        Self { narrow: Scratch::new(), wide: Scratch::new() }
    }

    /// Writes `len` numbers, then `pad` up to a whole vector.
    #[inline(always)]
    fn read<S: Simd>(&mut self, row: &Row<'_>, from: usize, len: usize, pad: f64, out: &mut [f64]) {
        let padded = len.next_multiple_of(f64::LANES);
        if row.is_wide() {
            out[..padded].copy_from_slice(row.block::<S, f64>(from, len, &mut self.wide, pad));
            return;
        }
        let block = row.block::<S, f32>(from, len, &mut self.narrow, pad as f32);
        for (out, &x) in out[..len].iter_mut().zip(block) {
            *out = f64::from(x);
        }
        out[len..padded].fill(pad);
    }
}

/// A row that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// The row as the kernels of pairs read it.
    pub side: Side<'a>,
    /// Its total, if it holds probabilities or weights.
    pub totals: Option<Totals>,
    /// A sum over the row alone that the caller wants; see [`Ready::with_own`].
    pub own: f64,
    /// Products and mixtures hold for this row.
    pub tame: bool,
    unit: Unit,
}

impl<'a> Ready<'a> {
    /// Checks a row and finds its normaliser.
    pub fn new(side: Side<'a>) -> Result<Self> {
        let mut ready = Self { side, totals: None, own: 0.0, tame: false, unit: Unit::Nothing };
        if !side.kind.is_log() {
            let totals = side.totals(false)?;
            ready.totals = Some(totals);
            if totals.has_mass() {
                let scale = totals.scale(0, 1000);
                let sum = totals.sum * libm::scalbn(scale, totals.power);
                ready.unit = Unit::Linear { scale, inverse: 1.0 / sum, log_total: libm::log(sum) };
            }
            return Ok(ready);
        }
        let Some(top) = peak(&side.row, false) else { return Ok(ready) };
        let mass = dispatch(Mass { row: side.row, top: top.value });
        let log_mass = libm::log(mass);
        side.check_log_probs(|| top.value + log_mass, false)?;
        ready.unit = Unit::Logs { top: top.value, inverse: 1.0 / mass, log_mass };
        Ok(ready)
    }

    /// True if the row is a distribution.
    pub fn is_defined(&self) -> bool {
        !matches!(self.unit, Unit::Nothing)
    }

    /// The parts of the log-sum-exp of logits: the largest of them, and the logarithm of the mass relative to it.
    pub fn level(&self) -> Option<(f64, f64)> {
        match self.unit {
            Unit::Logs { top, log_mass, .. } => Some((top, log_mass)),
            _ => None,
        }
    }

    /// With Σ a·b of its own fields as `own`, and whether it is tame.
    pub fn with_own(self, fields: Option<(Field, Field)>) -> Self {
        if !self.is_defined() {
            return self;
        }
        let (own, extreme) = dispatch(Survey { ready: &self, fields });
        let tame = match self.unit {
            Unit::Linear { .. } => extreme >= LEAST,
            _ => extreme >= DEEPEST,
        };
        Self { own, tame, ..self }
    }

    /// Length of the row.
    pub fn len(&self) -> usize {
        self.side.row.len()
    }

    /// Writes `len` numbers of a field, zeros (or [`ABSENT`]) up to a whole vector; a row without a distribution is 0.
    #[inline(always)]
    pub fn fill<S: Simd>(&self, field: Field, from: usize, len: usize, reader: &mut Reader, out: &mut [f64]) {
        let zero = S::F64::zero();
        let absent = S::F64::constant(ABSENT);
        let out = &mut out[..len.next_multiple_of(f64::LANES)];
        match self.unit {
            Unit::Nothing => out.fill(0.0),
            Unit::Linear { scale, inverse, log_total } => {
                let (scale, inverse, log_total) =
                    (S::F64::constant(scale), S::F64::constant(inverse), S::F64::constant(log_total));
                let least = S::F64::constant(libm::exp(LOWEST));
                reader.read::<S>(&self.side.row, from, len, 0.0, out);
                for lanes in out.chunks_exact_mut(f64::LANES) {
                    let x = S::F64::load(lanes) * scale;
                    let positive = zero.lt(x);
                    let value = match field {
                        Field::Prob => S::F64::select(positive, (x * inverse).max(least), zero),
                        Field::Log => S::F64::select(positive, math::ln(x) - log_total, absent),
                        Field::Root => (x * inverse).sqrt(),
                    };
                    value.store(lanes);
                }
            }
            Unit::Logs { top, inverse, log_mass } => {
                let factor = if field == Field::Root { inverse.sqrt() } else { inverse };
                let (top, factor, log_mass) =
                    (S::F64::constant(top), S::F64::constant(factor), S::F64::constant(log_mass));
                let (lowest, lowest_root) = (S::F64::constant(LOWEST), S::F64::constant(LOWEST_ROOT));
                let (none, half) = (S::F64::constant(f64::NEG_INFINITY), S::F64::constant(0.5));
                reader.read::<S>(&self.side.row, from, len, f64::NEG_INFINITY, out);
                for lanes in out.chunks_exact_mut(f64::LANES) {
                    let x = S::F64::load(lanes);
                    let present = none.lt(x);
                    let below = x - top;
                    let value = match field {
                        Field::Prob => S::F64::select(present, math::exp(below.max(lowest)) * factor, zero),
                        Field::Log => S::F64::select(present, below - log_mass, absent),
                        Field::Root => {
                            S::F64::select(present, math::exp((below * half).max(lowest_root)) * factor, zero)
                        }
                    };
                    value.store(lanes);
                }
            }
        }
    }
}

/// A sum of vectors in twice the digits.
#[derive(Clone, Copy)]
pub struct Exactly<V> {
    sum: V,
    rest: V,
}

impl<V: Vector<Elem = f64>> Exactly<V> {
    /// Nothing yet.
    #[inline(always)]
    pub fn new() -> Self {
        Self { sum: V::zero(), rest: V::zero() }
    }

    /// Adds a vector.
    #[inline(always)]
    pub fn add(&mut self, x: V) {
        let next = self.sum + x;
        let from_x = next - self.sum;
        self.rest = self.rest + ((self.sum - (next - from_x)) + (x - from_x));
        self.sum = next;
    }

    /// The sum of the lanes.
    #[inline(always)]
    pub fn total(self) -> f64 {
        let (mut sums, mut rests): (Sum, Sum) = ([0.0; 16], [0.0; 16]);
        self.sum.add_to(&mut sums);
        self.rest.add_to(&mut rests);
        total(&sums) + total(&rests)
    }
}

/// Σ e^(x − top).
struct Mass<'a> {
    row: Row<'a>,
    top: f64,
}

impl Kernel for Mass<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let (mut reader, mut numbers) = (Reader::new(), [0.0; BLOCK]);
        let mut mass = Exactly::<S::F64>::new();
        let (top, lowest, zero) = (S::F64::constant(self.top), S::F64::constant(-700.0), S::F64::zero());
        for from in (0..self.row.len()).step_by(BLOCK) {
            let len = BLOCK.min(self.row.len() - from);
            reader.read::<S>(&self.row, from, len, f64::NEG_INFINITY, &mut numbers);
            let mut sum = zero;
            for x in numbers[..len.next_multiple_of(f64::LANES)].chunks_exact(f64::LANES) {
                let below = S::F64::load(x) - top;
                sum = sum + S::F64::select(lowest.lt(below), math::exp(below.max(lowest)), zero);
            }
            mass.add(sum);
        }
        mass.total()
    }
}

/// Σ a·b of two fields of one row, and its smallest weight above 0 or its lowest finite logit below the top.
struct Survey<'a, 'b> {
    ready: &'b Ready<'a>,
    fields: Option<(Field, Field)>,
}

impl Kernel for Survey<'_, '_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64) {
        let (row, zero) = (self.ready.side.row, S::F64::zero());
        let mut reader = Reader::new();
        let (mut a, mut b) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut own = Exactly::<S::F64>::new();
        // As the largest of negated numbers: `max` is what lanes have.
        let mut most = S::F64::constant(f64::NEG_INFINITY);
        let (shift, scale, pad) = match self.ready.unit {
            Unit::Linear { scale, .. } => (0.0, scale, 0.0),
            Unit::Logs { top, .. } => (top, 1.0, f64::NEG_INFINITY),
            Unit::Nothing => (0.0, 1.0, 0.0),
        };
        let (shift, scale, none) = (S::F64::constant(shift), S::F64::constant(scale), S::F64::constant(pad));
        for from in (0..row.len()).step_by(BLOCK) {
            let len = BLOCK.min(row.len() - from);
            let padded = len.next_multiple_of(f64::LANES);
            reader.read::<S>(&row, from, len, pad, &mut a);
            for x in a[..padded].chunks_exact(f64::LANES) {
                let x = S::F64::load(x);
                let negated = zero - (x - shift) * scale;
                most = S::F64::select(none.lt(x), negated.max(most), most);
            }
            if let Some((first, second)) = self.fields {
                self.ready.fill::<S>(first, from, len, &mut reader, &mut a);
                self.ready.fill::<S>(second, from, len, &mut reader, &mut b);
                let mut sum = zero;
                for (a, b) in a[..padded].chunks_exact(f64::LANES).zip(b[..padded].chunks_exact(f64::LANES)) {
                    sum = S::F64::load(a).mul_add(S::F64::load(b), sum);
                }
                own.add(sum);
            }
        }
        (own.total(), -most.largest())
    }
}

//! Many rows: where each lies in its array, and which thread takes which.

use crate::error::{Argument, Error, Result};
use crate::pool::{Call, install, share};
use crate::prepare::Side;
use crate::rows::{Kind, Numbers, Row, Transform};

/// Numbers below which a call runs on the calling thread: waking another costs more.
const INLINE: usize = 128 * 1024;

/// Numbers that make a task worth handing to a thread, and more than which would make Ctrl-C wait.
const TASK: [usize; 2] = [64 * 1024, 1024 * 1024];

/// Tasks a thread gets, where there is enough for that: neighbouring rows are best read by one thread.
const TASKS: usize = 64;

/// Columns of a row that is split over threads when there are few: with fewer, a thread is done with one before others
/// have woken.
const SPLIT: usize = 512 * 1024;

/// How a call's rows go to threads.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// How many threads.
    pub threads: usize,
    /// Whether each row is split over them, rather than each thread given rows of its own.
    pub splits_rows: bool,
}

impl Sharing {
    /// For rows of that many numbers; up to `inline` in all, the calling thread keeps them.
    pub fn new(rows: usize, columns: usize, inline: usize, call: &Call) -> Self {
        let threads = if rows.saturating_mul(columns) <= inline { 1 } else { call.threads() };
        Self { threads, splits_rows: threads > 1 && rows < 4 * threads && columns >= SPLIT }
    }

    /// Runs tasks; of several errors the first task's is returned.
    pub fn run<T>(
        self,
        mut tasks: impl ExactSizeIterator<Item = T> + Send,
        run: impl Fn(T) -> Result<()> + Sync,
    ) -> Result<()> {
        if self.splits_rows {
            install(self.threads, || tasks.try_for_each(&run))
        } else {
            share(self.threads, tasks, run)
        }
    }
}

/// Rows of one argument: an array of any shape and strides whose last axis is the row.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    numbers: Numbers<'a>,
    start: usize,
    /// Length and stride of each leading axis, merged where they are one.
    leading: Vec<(usize, isize)>,
    columns: usize,
    stride: isize,
    kind: Kind,
    temperature: f64,
    argument: Argument,
}

impl<'a> Matrix<'a> {
    /// An array with that shape and strides (in elements, of any sign), its first element at `start`.
    pub fn new(
        numbers: Numbers<'a>,
        start: usize,
        shape: &[usize],
        strides: &[isize],
        kind: Kind,
        temperature: f64,
        argument: Argument,
    ) -> Result<Self> {
        let shape_error = |message: &str| Err(Error::Shape(format!("{}: {message}", argument.name())));
        let Some((&columns, lead_shape)) = shape.split_last() else { return shape_error("no axis") };
        if strides.len() != shape.len() {
            return shape_error("shape and strides differ in length");
        }
        // A product that no memory could hold would overflow below.
        let count = lead_shape.iter().try_fold(1usize, |count, &len| count.checked_mul(len));
        if count.and_then(|rows| rows.checked_mul(columns)).is_none_or(|count| count > isize::MAX as usize) {
            return shape_error("more numbers than an address can count");
        }
        // Without rows the other lengths may be anything, and their products overflow.
        let empty = count == Some(0);
        let mut leading: Vec<(usize, isize)> = if empty { vec![(0, 0)] } else { Vec::new() };
        for (&len, &stride) in lead_shape.iter().zip(strides).filter(|_| !empty) {
            match leading.last_mut() {
                Some((outer, outer_stride)) if stride.checked_mul(len as isize) == Some(*outer_stride) => {
                    *outer *= len;
                    *outer_stride = stride;
                }
                _ => leading.push((len, stride)),
            }
        }
        let matrix =
            Self { numbers, start, leading, columns, stride: strides[shape.len() - 1], kind, temperature, argument };
        if columns == 0 {
            return shape_error("no columns");
        }
        // Corners suffice: an offset is linear in every index.
        let reach = |sign: isize| -> i128 {
            let axes = matrix.leading.iter().copied().chain([(columns, matrix.stride)]);
            axes.map(|(len, stride)| {
                // At most 2^63 · 2^63 an axis, and no more than 2^63 numbers in all: far from the end of an i128 each.
                let far = stride as i128 * (len as i128 - 1);
                if far.signum() == sign as i128 { far } else { 0 }
            })
            .fold(0, i128::saturating_add)
        };
        let (low, high) = (start as i128 + reach(-1), start as i128 + reach(1));
        if matrix.rows() > 0 && (low < 0 || high >= numbers.len() as i128) {
            return shape_error("strides reach outside the array");
        }
        Ok(matrix)
    }

    /// A contiguous array of `rows` rows.
    pub fn contiguous(numbers: Numbers<'a>, rows: usize, kind: Kind, argument: Argument) -> Result<Self> {
        let columns = numbers.len() / rows.max(1);
        Self::new(numbers, 0, &[rows, columns], &[columns as isize, 1], kind, 1.0, argument)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.leading.iter().map(|&(len, _)| len).product()
    }

    /// Length of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// What the numbers mean.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True if float64 lanes are needed to hold the numbers.
    pub fn is_wide(&self) -> bool {
        self.numbers.is_wide()
    }

    /// The numbers of one row.
    #[inline]
    pub fn row(&self, index: usize) -> Row<'a> {
        let mut start = self.start as isize;
        let mut rest = index;
        if let Some((&(_, outer_stride), inner)) = self.leading.split_first() {
            for &(len, stride) in inner.iter().rev() {
                start += (rest % len) as isize * stride;
                rest /= len;
            }
            start += rest as isize * outer_stride;
        }
        let divides = self.kind.is_log() && self.temperature != 1.0;
        let transform = if divides { Transform::Divide(self.temperature) } else { Transform::Keep };
        Row::new(self.numbers, start as usize, self.stride, self.columns, transform)
    }

    /// One row.
    pub fn side(&self, index: usize) -> Side<'a> {
        let Self { kind, temperature, argument, .. } = *self;
        Side { row: self.row(index), kind, temperature, argument, index }
    }
}

/// Fills `width` numbers for each row. `fill` gets the row's index, whether to split the row itself over threads,
/// and where to write.
pub fn map_rows(
    rows: usize,
    columns: usize,
    width: usize,
    call: &Call,
    fill: impl Fn(usize, bool, &mut [f64]) -> Result<()> + Sync,
) -> Result<Vec<f64>> {
    map_groups(rows, columns, width, call, |first, split_rows, out| {
        for (i, out) in out.chunks_mut(width).enumerate() {
            if call.stopped() {
                return Err(Error::Interrupted);
            }
            fill(first + i, split_rows, out)?;
        }
        Ok(())
    })
}

/// Fills `width` numbers for each row, a group of rows at a time: `fill` gets the index of the first. Rows go to threads
/// in fixed groups and errors are reported in the order of the groups, so neither depends on the number of threads.
pub fn map_groups(
    rows: usize,
    columns: usize,
    width: usize,
    call: &Call,
    fill: impl Fn(usize, bool, &mut [f64]) -> Result<()> + Sync,
) -> Result<Vec<f64>> {
    let mut out = vec![0.0; rows * width];
    if rows == 0 || width == 0 {
        return Ok(out);
    }
    let sharing = Sharing::new(rows, columns, INLINE, call);
    let numbers = rows.saturating_mul(columns) / sharing.threads.saturating_mul(TASKS);
    let group = (numbers.clamp(TASK[0], TASK[1]) / columns.max(1)).max(1);
    let run = |(task, out): (usize, &mut [f64])| -> Result<()> {
        if call.stopped() {
            return Err(Error::Interrupted);
        }
        fill(task * group, sharing.splits_rows, out)
    };
    sharing.run(out.chunks_mut(group * width).enumerate(), run)?;
    Ok(out)
}

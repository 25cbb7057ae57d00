//! A call: the interpreter released, Ctrl-C answered, errors mapped.
//!
//! Work runs on a thread of its own so that the calling one can answer Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;
use crate::pool::Call;

/// How often a waiting call looks for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(50);

pyo3::create_exception!(
    kullback._core._native,
    RowError,
    PyValueError,
    "A row that is no distribution: (reason, argument, row, column, value)."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Negative { argument, row, column, value } => {
                RowError::new_err(("negative", argument.name(), row, column as i64, value))
            }
            Error::Normalisation { argument, row, value } => {
                RowError::new_err(("normalisation", argument.name(), row, -1i64, value))
            }
            Error::Transport(flaw) => super::sinkhorn::problem_error(&flaw),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::UnknownName(_) | Error::Parameter(_) | Error::Shape(_) => PyValueError::new_err(error.to_string()),
        }
    }
}

/// Runs work without the interpreter lock; stops it if a signal handler raises.
pub fn detached<T: Send>(
    py: Python<'_>,
    threads: usize,
    numbers: usize,
    work: impl FnOnce(&Call) -> crate::Result<T> + Send,
) -> PyResult<T> {
    /// Numbers that take less than the patience of any user.
    const QUICK: usize = 1 << 20;
    let call = &Call::new(threads);
    let guarded = move || catch_unwind(AssertUnwindSafe(|| work(call)));
    let outcome = py.detach(move || {
        if numbers <= QUICK {
            return Ok(guarded());
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = std::thread::Builder::new().name("kullback-call".to_owned());
            let spawned = worker.spawn_scoped(scope, move || {
                // The receiver outlives the scope, so the outcome always arrives.
                let _ = sender.send(guarded());
            });
            if spawned.is_err() {
                return Err(PyRuntimeError::new_err("the system refused to start a thread"));
            }
            let mut interrupted = None;
            loop {
                match receiver.recv_timeout(PATIENCE) {
                    Ok(outcome) => return interrupted.map_or(Ok(outcome), Err),
                    Err(RecvTimeoutError::Timeout) if interrupted.is_none() => {
                        #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general enough
                        let signals = Python::attach(|py| py.check_signals());
                        interrupted = signals.err();
                        call.stop.store(interrupted.is_some(), Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(PyRuntimeError::new_err("a worker thread ended without a result"));
                    }
                }
            }
        })
    })?;
    outcome
        .map_err(|_| PyRuntimeError::new_err("internal error: please report it with the input that caused it"))?
        .map_err(PyErr::from)
}

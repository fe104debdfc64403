//! What a network is fed: named inputs with their labels, in buffers that are used again.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Some items of a data set, ready to be fed.
#[derive(Debug)]
pub struct Batch {
    /// The inputs, images as a single one without a name.
    pub inputs: Vec<Input>,
    /// The class of every item, if the data have labels.
    pub labels: Option<Vec<i64>>,
    /// The numbers that a network should give for every item, if the data say.
    pub targets: Option<Input>,
    /// Number of the batch in its epoch.
    pub step: usize,
}

impl Batch {
    /// The number of items.
    pub fn len(&self) -> usize {
        self.inputs
            .first()
            .and_then(|input| input.shape.first())
            .copied()
            .unwrap_or(0)
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One input of a batch, the items along its first dimension.
#[derive(Debug)]
pub struct Input {
    /// The name that a tensor file gives it.
    pub name: Option<Arc<str>>,
    /// Its shape; batch, channels, height, width for images.
    pub shape: Vec<usize>,
    /// Its values, the last dimension contiguous.
    pub data: TensorData,
}

/// The values of an input.
#[derive(Debug)]
pub enum TensorData {
    /// Real numbers.
    F32(Buffer),
    /// Whole numbers, such as indices of an embedding.
    I64(Vec<i64>),
}

impl TensorData {
    /// The real numbers, if it is those.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match self {
            Self::F32(values) => Some(values),
            Self::I64(_) => None,
        }
    }

    /// The whole numbers, if it is those.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match self {
            Self::F32(_) => None,
            Self::I64(values) => Some(values),
        }
    }
}

/// Values in memory that goes back to the loader when they are dropped.
pub struct Buffer {
    values: Vec<f32>,
    home: Arc<Buffers>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values)", self.values.len())
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        let home = Buffers::new(0);
        Self { values, home }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.values));
    }
}

/// Memory of batches that have been used up.
#[derive(Debug)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<f32>>>,
    most: usize,
}

impl Buffers {
    /// A store that keeps at most `most` buffers.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            most,
        })
    }

    /// A buffer of `len` values, whatever was in it before.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut values = free.unwrap_or_default();
        values.resize(len, 0.0);
        Buffer {
            values,
            home: self.clone(),
        }
    }

    fn give(&self, values: Vec<f32>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most {
            free.push(values);
        }
    }
}

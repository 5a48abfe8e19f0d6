//! A file's tensors as a [`Description`] names them: each of the shape it must have, none left over.

use crate::description::Description;
use crate::rope::ROPE_FACTORS;
use crate::weights::{Tensor, expect_shape, floats};
use crate::{LoadError, Weights};
use kernels::BlockFormat;
use std::collections::BTreeSet;

/// A file's tensors, and which of them were taken.
pub(crate) struct Shelf<'a> {
    pub(crate) description: &'a Description,
    weights: &'a Weights,
    taken: BTreeSet<String>,
}

impl<'a> Shelf<'a> {
    pub(crate) fn new(description: &'a Description, weights: &'a Weights) -> Self {
        Self { description, weights, taken: BTreeSet::new() }
    }

    fn take(&mut self, name: String) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.weights.tensor(&name).ok_or(LoadError::MissingTensor(name.clone()))?;
        self.taken.insert(name);
        Ok(tensor)
    }

    /// A matrix `[rows, cols]`, in the mapped file.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.take(format!("{name}.weight"))?;
        expect_shape(&tensor, &[rows, cols])?;
        Ok(tensor)
    }

    /// How the matrix of this name is stored, if there is one.
    pub(crate) fn format(&self, name: &str) -> Option<BlockFormat> {
        self.weights.tensor(&format!("{name}.weight")).map(|tensor| tensor.format)
    }

    /// Lets go of a tensor's bytes in the mapped file.
    pub(crate) fn release(&self, tensor: &Tensor<'_>) {
        self.weights.release(tensor);
    }

    /// A norm's weights, as they are multiplied by.
    pub(crate) fn norm(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.take(format!("{name}.weight"))?;
        let mut norm = floats(&tensor, &[len])?;
        if self.description.norm_plus_one {
            for w in &mut norm {
                *w += 1.0;
            }
        }
        Ok(norm)
    }

    pub(crate) fn bias(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.take(format!("{name}.bias"))?;
        floats(&tensor, &[len])
    }

    /// Refuses a file with tensors that nobody took.
    pub(crate) fn finish(&self) -> Result<(), LoadError> {
        let spare_output = format!("{}.weight", self.description.names.output);
        let overlooked = self.weights.names().find(|&name| {
            let harmless = name == ROPE_FACTORS
                // Rotation frequencies, which older checkpoints store.
                || name.ends_with(".rotary_emb.inv_freq")
                || (self.description.tied && name == spare_output);
            !harmless && !self.taken.contains(name)
        });
        match overlooked {
            Some(name) => Err(LoadError::UnusedTensor(name.to_owned())),
            None => Ok(()),
        }
    }
}

//! A weight matrix in its quantised blocks, and vectors.
//!
//! The blocks are copied once out of the source and multiplied by candle's
//! kernels for plain blocks. Candle's `QTensor` would also keep a repacked
//! copy (2.3 times the memory for Q4_K) and pick its kernel by the number of
//! rows; this way memory is what the planner counts, and a row's result does
//! not depend on the rows beside it. Measured for 2048×5632 on two busy cores:
//! equal at one row (Q8_0: 0.7 of it), but a long prompt takes 2.3 (Q4_K) to
//! 13 (Q8_0) times as long at 64 rows, until kernels of our own replace these.

use candle_core::CpuStorage;
use candle_core::quantized::{GgmlDType, QuantizedType};

use super::serial;
use crate::gguf::Header;
use crate::manifest::CheckError;
use crate::source::{SourceError, WeightSource};
use exo_model::weights::LayerRange;

/// Why a stage could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The manifest is not this file's, or the file is not usable.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The model has no such layers.
    #[error("layers {layers} are outside a model of {layer_count} layers")]
    NoSuchLayers {
        /// What was asked for.
        layers: LayerRange,
        /// What there is.
        layer_count: u32,
    },
    /// A tensor's bytes could not be read.
    #[error("tensor `{tensor}`")]
    Source {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// Candle refused a tensor.
    #[error("tensor `{tensor}` could not be decoded")]
    Decode {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: candle_core::Error,
    },
    /// The source gave another number of bytes than was asked for, or the
    /// tensor is absent.
    #[error("tensor `{0}` is incomplete")]
    Incomplete(String),
}

/// Reads tensors of one file by name.
pub(super) struct Tensors<'a> {
    pub(super) header: &'a Header,
    pub(super) source: &'a dyn WeightSource,
}

impl Tensors<'_> {
    /// A tensor's blocks and the number of its elements.
    fn blocks(&self, name: &str) -> Result<(Box<dyn QuantizedType>, usize), LoadError> {
        let incomplete = || LoadError::Incomplete(name.to_owned());
        let info = self.header.tensors().get(name).ok_or_else(incomplete)?;
        let bytes = self
            .source
            .read_at(info.range)
            .map_err(|source| LoadError::Source { tensor: name.to_owned(), source })?;
        if bytes.len() as u64 != info.range.len() {
            return Err(incomplete());
        }
        let elements = bytes.len() / info.dtype.type_size() * info.dtype.block_size();
        Ok((decode(info.dtype, &bytes), elements))
    }

    /// A matrix that turns `columns` inputs into `rows` outputs.
    pub(super) fn matrix(&self, name: &str, columns: u32) -> Result<Matrix, LoadError> {
        let (blocks, elements) = self.blocks(name)?;
        let columns = columns as usize;
        Ok(Matrix { blocks, rows: elements / columns, columns })
    }

    /// A tensor as plain numbers: for norms and other short ones.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let (blocks, elements) = self.blocks(name)?;
        blocks
            .dequantize(elements)
            .and_then(floats)
            .map_err(|source| LoadError::Decode { tensor: name.to_owned(), source })
    }

    /// The same, where the file may lack it.
    pub(super) fn vector_if_any(&self, name: &str) -> Result<Option<Vec<f32>>, LoadError> {
        let present = self.header.tensors().contains_key(name);
        present.then(|| self.vector(name)).transpose()
    }
}

/// Copies blocks out of `bytes`. Candle asserts the alignment of the slice it
/// is given, and bytes compiled into the program have none: those take a
/// detour through aligned memory, one tensor at a time.
fn decode(dtype: GgmlDType, bytes: &[u8]) -> Box<dyn QuantizedType> {
    const ALIGN: usize = align_of::<u64>();
    if bytes.as_ptr().addr().is_multiple_of(ALIGN) {
        return dtype.from_data(bytes.into());
    }
    let mut padded = vec![0_u8; bytes.len() + ALIGN];
    let skip = padded.as_ptr().align_offset(ALIGN).min(ALIGN);
    let aligned = &mut padded[skip..skip + bytes.len()];
    aligned.copy_from_slice(bytes);
    dtype.from_data((&*aligned).into())
}

fn floats(storage: CpuStorage) -> Result<Vec<f32>, candle_core::Error> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        _ => Err(candle_core::Error::Msg("dequantised to something other than f32".into())),
    }
}

/// A quantised matrix, stored row by row: output index, then input index.
pub(super) struct Matrix {
    blocks: Box<dyn QuantizedType>,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// Number of outputs (or of embeddings).
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// `inputs · Wᵀ` for each row of `columns` inputs; `rows` outputs each.
    pub(super) fn apply(&self, inputs: &[f32]) -> Result<Vec<f32>, candle_core::Error> {
        let serial = serial::multiply(&*self.blocks, self.rows, self.columns, inputs);
        if let Some(outputs) = serial {
            return Ok(outputs);
        }
        let count = inputs.len() / self.columns;
        let mut outputs = vec![0.0; count * self.rows];
        let shape = (count, self.columns, self.rows);
        self.blocks.matmul_t(shape, inputs, &mut outputs)?;
        Ok(outputs)
    }

    /// Dequantises the rows with these indices, each below [`Matrix::rows`].
    pub(super) fn lookup(&self, indices: &[u32]) -> Result<Vec<f32>, candle_core::Error> {
        self.blocks.embedding(indices, self.rows, self.columns).and_then(floats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::math::dot;
    use crate::sample::mix;
    use crate::source::MemoryWeights;
    use crate::testing::GgufWriter;

    /// Numbers in −1..1.
    fn numbers(seed: u64, count: u64) -> Vec<f32> {
        (0..count).map(|index| (mix(seed, index) % 2_001) as f32 / 1_000.0 - 1.0).collect()
    }

    #[test]
    fn products_are_near_those_of_the_dequantised_matrix() {
        for (dtype, error_max) in [
            (GgmlDType::F32, 1e-6),
            (GgmlDType::F16, 1e-3),
            (GgmlDType::BF16, 1e-2),
            (GgmlDType::Q4_0, 1e-2),
            (GgmlDType::Q4_1, 1e-2),
            (GgmlDType::Q5_0, 1e-2),
            (GgmlDType::Q5_1, 1e-2),
            (GgmlDType::Q8_0, 1e-2),
            (GgmlDType::Q2K, 1e-2),
            (GgmlDType::Q3K, 1e-2),
            (GgmlDType::Q4K, 1e-2),
            (GgmlDType::Q5K, 1e-2),
            (GgmlDType::Q6K, 1e-2),
        ] {
            // A small one, and one too large for the calling thread alone; odd,
            // so that candle's groups of four leave a rest.
            check_products(dtype, 7, error_max);
            check_products(dtype, 2_051, error_max);
        }
    }

    fn check_products(dtype: GgmlDType, rows: usize, error_max: f32) {
        let mut writer = GgufWriter::default();
        writer.tensor("w", &[512, rows as u64], dtype, &numbers(1, 512 * rows as u64));
        let source = MemoryWeights::from(writer.finish());
        let header = Header::read(&source).unwrap();
        let tensors = Tensors { header: &header, source: &source };
        let matrix = tensors.matrix("w", 512).unwrap();
        let plain = tensors.vector("w").unwrap();
        let inputs = numbers(2, 512 * 3);
        let outputs = matrix.apply(&inputs).unwrap();
        let expected: Vec<f32> =
            inputs.chunks(512).flat_map(|input| plain.chunks(512).map(move |row| dot(row, input))).collect();
        let length = dot(&expected, &expected).sqrt();
        let off: Vec<f32> = outputs.iter().zip(&expected).map(|(a, b)| a - b).collect();
        let error = dot(&off, &off).sqrt() / length;
        assert!(error < error_max, "{dtype:?}: {error}");
        let rows_of = |row: usize| &plain[512 * row..512 * (row + 1)];
        assert_eq!(matrix.lookup(&[6, 0]).unwrap(), [rows_of(6), rows_of(0)].concat());
        let alone = matrix.apply(&inputs[512..1_024]).unwrap();
        assert_eq!(alone, outputs[rows..2 * rows], "a row alone is the row in company");
    }
}

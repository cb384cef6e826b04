//! Products on the calling thread alone, for matrices too small to share.
//!
//! Candle's products wait for every thread of its pool. On a busy machine
//! that wait is milliseconds, thousands of times what a small matrix needs.

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use candle_core::quantized::{GgmlDType, GgmlType, QuantizedType};

/// Largest matrix multiplied here, in elements: about 0.1 ms a row of inputs.
/// Decided by the matrix, never by the inputs, so that a matrix always sums
/// in one order.
const ELEMENTS_MAX: usize = 1 << 20;

/// `inputs · Wᵀ` if the matrix of `rows` × `columns` is small and its type
/// has a kernel here; `None` leaves it to candle's pool.
pub(super) fn multiply(
    blocks: &dyn QuantizedType,
    rows: usize,
    columns: usize,
    inputs: &[f32],
) -> Option<Vec<f32>> {
    if rows.saturating_mul(columns) > ELEMENTS_MAX {
        return None;
    }
    let run = match blocks.dtype() {
        GgmlDType::F32 => run::<f32>,
        GgmlDType::Q4_0 => run::<BlockQ4_0>,
        GgmlDType::Q4_1 => run::<BlockQ4_1>,
        GgmlDType::Q5_0 => run::<BlockQ5_0>,
        GgmlDType::Q5_1 => run::<BlockQ5_1>,
        GgmlDType::Q8_0 => run::<BlockQ8_0>,
        GgmlDType::Q2K => run::<BlockQ2K>,
        GgmlDType::Q3K => run::<BlockQ3K>,
        GgmlDType::Q4K => run::<BlockQ4K>,
        GgmlDType::Q5K => run::<BlockQ5K>,
        GgmlDType::Q6K => run::<BlockQ6K>,
        // Their element types are not exported; nor stored in blocks.
        GgmlDType::F16 | GgmlDType::BF16 | GgmlDType::Q8_1 | GgmlDType::Q8K => return None,
    };
    Some(run(blocks, rows, columns, inputs))
}

fn run<T: GgmlType>(blocks: &dyn QuantizedType, rows: usize, columns: usize, inputs: &[f32]) -> Vec<f32> {
    let per_row = columns / T::BLCK_SIZE;
    // SAFETY: candle stores a tensor of type `T::DTYPE` as a `Vec<T>`, and
    // reports its pointer and length in bytes; the caller chose `T` by that
    // type. The slice lives no longer than the borrow of `blocks`.
    let weights = unsafe {
        let count = blocks.storage_size_in_bytes() / size_of::<T>();
        std::slice::from_raw_parts(blocks.as_ptr().cast::<T>(), count)
    };
    let mut rounded = vec![T::VecDotType::zeros(); columns / T::VecDotType::BLCK_SIZE];
    let mut outputs = Vec::with_capacity(inputs.len() / columns * rows);
    for input in inputs.chunks_exact(columns) {
        T::VecDotType::from_float(input, &mut rounded);
        let row_of = |row: &[T]| T::vec_dot(columns, row, &rounded);
        outputs.extend(weights.chunks_exact(per_row).take(rows).map(row_of));
    }
    outputs
}

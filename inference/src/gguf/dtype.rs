//! The number formats of ggml, by their ids in a GGUF file.

use candle_core::quantized::GgmlDType;

/// The format with this id, or the name of one that cannot be loaded.
pub(super) fn from_id(id: u32) -> Result<GgmlDType, String> {
    Ok(match id {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        other => {
            return Err(name_of(other).map_or_else(|| format!("number {other}"), str::to_owned));
        }
    })
}

/// The id of a format that [`from_id`] reads; `None` for candle's others.
pub(crate) fn id_of(dtype: GgmlDType) -> Option<u32> {
    (0..=30).find(|&id| from_id(id) == Ok(dtype))
}

/// Names of the formats that exist but are not loaded, from ggml's `ggml.h`.
fn name_of(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

//! Small files in which the mesh remembers things that come again by themselves:
//! a damaged one is begun anew, and one that cannot be written is missed, no more.

use std::path::Path;

use minicbor::{Decode, Encode};

use exo_model::codec;

/// Longest file. What would not fit is known until the program ends.
const FILE_BYTES_MAX: usize = 16 << 20;

/// What was written last; nothing where the file is missing, damaged or too long.
pub(super) fn read<T>(path: &Path) -> Vec<T>
where
    Vec<T>: for<'b> Decode<'b, ()> + Encode<()>,
{
    let fits = std::fs::metadata(path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX as u64);
    let bytes = if fits { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    codec::decode(&bytes, FILE_BYTES_MAX).unwrap_or_default()
}

/// Writes a file anew, whole or not at all.
pub(super) fn write<T>(path: &Path, all: &Vec<T>)
where
    Vec<T>: Encode<()>,
{
    let bytes = codec::encode(all);
    if bytes.len() > FILE_BYTES_MAX {
        tracing::warn!(path = %path.display(), bytes = bytes.len(), "too much to remember");
        return;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    if let Err(error) = std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, path)) {
        tracing::warn!(path = %path.display(), %error, "not remembered");
    }
}

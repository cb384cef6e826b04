//! Frames between peers: a 32-bit big-endian length, then one CBOR value.
//!
//! The length is checked before anything is allocated. Used by the sync, join
//! and stage streams, each with its own limit.

use minicbor::{Decode, Encode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use exo_model::codec::{self, DecodeError};

/// A frame that cannot be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than it may send.
    #[error("frame of {len} bytes refused: at most {max} are allowed here")]
    Oversize {
        /// Announced length in bytes.
        len: usize,
        /// Allowed length in bytes.
        max: usize,
    },
    /// The bytes are no frame of this protocol.
    #[error("malformed frame refused: {0}")]
    Malformed(#[from] DecodeError),
    /// The stream broke.
    #[error("stream: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads one frame's bytes; `None` when the stream ended before one began.
///
/// # Errors
/// See [`FrameError`].
pub async fn read_bytes<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut prefix = [0; 4];
    let first = stream.read(&mut prefix[..1]).await?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let len = u32::from_be_bytes(prefix) as usize;
    if len > max {
        return Err(FrameError::Oversize { len, max });
    }
    // Grows with what really arrives: a false length costs its sender more
    // than us.
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(bytes))
}

/// Reads and decodes one frame; `None` when the stream ended before one began.
///
/// # Errors
/// See [`FrameError`].
pub async fn read<R, T>(stream: &mut R, max: usize) -> Result<Option<T>, FrameError>
where
    R: AsyncRead + Unpin,
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    match read_bytes(stream, max).await? {
        Some(bytes) => Ok(Some(codec::decode(&bytes, max)?)),
        None => Ok(None),
    }
}

/// Writes one frame's bytes.
///
/// # Errors
/// When `bytes` is over `max`, or the stream broke.
pub async fn write_bytes<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &[u8],
    max: usize,
) -> Result<(), FrameError> {
    let oversize = FrameError::Oversize { len: bytes.len(), max };
    if bytes.len() > max {
        return Err(oversize);
    }
    let len = u32::try_from(bytes.len()).map_err(|_| oversize)?;
    let mut framed = Vec::with_capacity(bytes.len() + 4);
    framed.extend_from_slice(&len.to_be_bytes());
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    Ok(())
}

/// Encodes and writes one frame.
///
/// # Errors
/// When the value is over `max`, or the stream broke.
pub async fn write<W: AsyncWrite + Unpin, T: Encode<()>>(
    stream: &mut W,
    value: &T,
    max: usize,
) -> Result<(), FrameError> {
    write_bytes(stream, &codec::encode(value), max).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
    }

    #[test]
    fn frames_survive_the_way() {
        block_on(async {
            let mut wire = Vec::new();
            write(&mut wire, &("hello", 7_u32), 64).await.expect("fits");
            let mut reader = wire.as_slice();
            let read_back: Option<(String, u32)> = read(&mut reader, 64).await.expect("well-formed");
            assert_eq!(read_back, Some(("hello".into(), 7)));
            let end: Option<(String, u32)> = read(&mut reader, 64).await.expect("clean end");
            assert_eq!(end, None);
        });
    }

    #[test]
    fn n7_an_oversize_length_is_refused_before_it_is_read() {
        block_on(async {
            let mut wire: &[u8] = &[0xff, 0xff, 0xff, 0xff, 1, 2, 3];
            let refused = read_bytes(&mut wire, 1024).await;
            assert!(matches!(refused, Err(FrameError::Oversize { len: 0xffff_ffff, max: 1024 })));
        });
    }

    #[test]
    fn a_frame_cut_short_is_an_error_not_a_short_frame() {
        block_on(async {
            for cut in 1..7 {
                let wire = [0, 0, 0, 3, 1, 2, 3];
                assert!(read_bytes(&mut &wire[..cut], 16).await.is_err(), "cut at {cut}");
            }
        });
    }
}

//! The file of devices that a relay serves: one id a line, in hexadecimal;
//! empty lines and what follows a `#` are for people.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exo_model::id::DeviceId;
use exo_sync::relay::AllowList;

use crate::complain;

/// Largest file that is read: some 10,000 devices with a note beside each.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Pause between looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A file that is no list of devices.
#[derive(Debug, thiserror::Error)]
pub(super) enum AllowError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not an id.
    #[error(
        "{path}, line {line}: not a device id; write its 64 hexadecimal characters, and notes behind a #"
    )]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// Over [`FILE_BYTES_MAX`].
    #[error("{0} is larger than a list of devices can be (1 MiB)")]
    TooLong(PathBuf),
}

/// The devices in the file.
pub(super) fn read(path: &Path) -> Result<BTreeSet<DeviceId>, AllowError> {
    let io = |source| AllowError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(AllowError::TooLong(path.to_owned()));
    }
    let ids = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    ids.enumerate()
        .filter(|(_, id)| !id.is_empty())
        .map(|(at, id)| id.parse().map_err(|_| AllowError::Line { path: path.to_owned(), line: at + 1 }))
        .collect()
}

/// Reads the file again and again, for ever. One that is broken at the moment
/// changes nothing; that is told once.
pub(super) async fn follow(path: PathBuf, list: AllowList) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = path.clone();
        let error = match tokio::task::spawn_blocking(move || read(&looked)).await {
            Ok(Ok(devices)) => {
                list.replace(devices);
                String::new()
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if error != told && !error.is_empty() {
            complain(&format!("exo-studio: {error}. The devices of before are served until this is mended."));
        }
        told = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_device_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("friends.txt");
        let (a, b) = (DeviceId::from_bytes([0xa1; 32]), DeviceId::from_bytes([0xb2; 32]));
        assert!(matches!(read(&path), Err(AllowError::Io { .. })));
        std::fs::write(&path, format!("# friends\n\n  {} # Ana\n{}\r\n", a.to_hex(), b.to_hex())).unwrap();
        assert_eq!(read(&path).unwrap(), [a, b].into());
        std::fs::write(&path, format!("{}\n{}", a.to_hex(), &b.to_hex()[1..])).unwrap();
        assert!(matches!(read(&path), Err(AllowError::Line { line: 2, .. })));
        std::fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
        assert!(matches!(read(&path), Err(AllowError::TooLong(_))));
    }
}

//! Adding models: the one built in, and GGUF files from disk.

use std::path::{Path, PathBuf};

use exo_inference::manifest::derive_manifest;
use exo_inference::source::FileWeights;
use exo_model::decide::{Intent, Refusal};
use exo_model::weights::{ByteRange, ModelManifest};
use exo_sync::blobs::BlobsError;
use exo_sync::replica::ReplicaError;

use super::{Membership, Node};
use crate::engine::EngineError;
use crate::folder::FolderError;

/// File name of the built-in model once it is written out.
const STARTER_FILE: &str = "starter.gguf";

/// A model that cannot be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("the built-in model is switched off on this node")]
    StarterOff,
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl Node {
    /// Shares the model that is built into the program.
    pub(crate) async fn add_starter(&self, membership: &Membership) -> Result<ModelManifest, ModelError> {
        if !self.options.starter {
            return Err(ModelError::StarterOff);
        }
        let path = self.folder.models()?.join(STARTER_FILE);
        let failed = |error: std::io::Error| ModelError::File { path: path.clone(), reason: error.to_string() };
        let current = std::fs::read(&path).is_ok_and(|bytes| bytes == exo_inference::starter::STARTER_GGUF);
        if !current {
            std::fs::write(&path, exo_inference::starter::STARTER_GGUF).map_err(failed)?;
        }
        membership.add_model(&path).await
    }
}

impl Membership {
    /// A model, and the ranges of its file that are on this device.
    pub(crate) async fn holdings(&self, model: Option<&str>) -> Result<(ModelManifest, Vec<ByteRange>), ModelError> {
        let manifest = self.engine().find(model)?;
        let ranges = self.mesh().blobs().present(manifest.file, manifest.size_bytes).await?;
        Ok((manifest, ranges))
    }

    /// Takes a GGUF file in where it lies, and shares what it is.
    pub(crate) async fn add_model(&self, path: &Path) -> Result<ModelManifest, ModelError> {
        let failed = |reason: String| ModelError::File { path: path.to_owned(), reason };
        // Looked at before it is hashed: a wrong file is refused at once.
        let source = FileWeights::open(path).map_err(|error| failed(error.to_string()))?;
        let header = exo_inference::gguf::Header::read(&source).map_err(|error| failed(error.to_string()))?;
        drop(header);
        let file = self.mesh().blobs().add_file(path).await?;
        let manifest = derive_manifest(&source, file).map_err(|error| failed(error.to_string()))?;
        match self.replica().record(Intent::AddModel(manifest.clone())).await {
            // Shared already: nothing to say again.
            Ok(_) | Err(ReplicaError::Refused(Refusal::Exists(_))) => Ok(manifest),
            Err(error) => Err(error.into()),
        }
    }
}

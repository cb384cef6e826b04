//! Adding models: the one built in, and GGUF files from disk.

use std::path::{Path, PathBuf};

use exo_inference::chat::ChatTemplate;
use exo_inference::manifest::derive_manifest;
use exo_inference::source::FileWeights;
use exo_inference::tokenizer::Tokenizer;
use exo_model::decide::{Intent, Refusal};
use exo_model::weights::{ByteRange, ModelManifest};
use exo_sync::blobs::BlobsError;
use exo_sync::replica::ReplicaError;

use super::{Membership, MembershipError};
use crate::engine::EngineError;

/// A model that cannot be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
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
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl Membership {
    /// Shares the model that is built into the program.
    pub(crate) async fn add_starter(&self) -> Result<ModelManifest, ModelError> {
        let path = self.engine()?.host().write_starter().await?;
        self.add_model(&path).await
    }

    /// A model, and the ranges of its file that are on this device.
    pub(crate) async fn holdings(
        &self,
        model: Option<&str>,
    ) -> Result<(ModelManifest, Vec<ByteRange>), ModelError> {
        let manifest = self.engine()?.find(model)?;
        let ranges = self.mesh().blobs().present(manifest.file, manifest.size_bytes).await?;
        Ok((manifest, ranges))
    }

    /// Takes a GGUF file in where it lies, and shares what it is.
    pub(crate) async fn add_model(&self, path: &Path) -> Result<ModelManifest, ModelError> {
        let failed = |reason: String| ModelError::File { path: path.to_owned(), reason };
        // Looked at before it is hashed: a wrong file is refused at once.
        let source = FileWeights::open(path).map_err(|error| failed(error.to_string()))?;
        let header = exo_inference::gguf::Header::read(&source).map_err(|error| failed(error.to_string()))?;
        // A model that could be shared but not asked helps nobody.
        Tokenizer::from_header(&header).map_err(|error| failed(error.to_string()))?;
        ChatTemplate::from_header(&header).map_err(|error| failed(error.to_string()))?;
        let file = self.mesh().blobs().add_file(self.replica().state().id, path).await?;
        let manifest = derive_manifest(&source, file).map_err(|error| failed(error.to_string()))?;
        match self.replica().record(Intent::AddModel(manifest.clone())).await {
            // Shared already: nothing to say again.
            Ok(_) | Err(ReplicaError::Refused(Refusal::Exists(_))) => Ok(manifest),
            Err(error) => Err(error.into()),
        }
    }
}

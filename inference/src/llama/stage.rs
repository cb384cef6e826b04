//! Consecutive layers of a model, loaded and ready to run.

use std::sync::Arc;

use exo_model::weights::{LayerRange, ModelManifest};

use super::cache::KvCache;
use super::config::Config;
use super::layer::Layer;
use super::math::rms_norm;
use super::matrix::{LoadError, Matrix, Tensors};
use super::rope::Rope;
use crate::engine::{Activations, ForwardError, ROWS_MAX, StageInput, StageOutput};
use crate::manifest::{CheckError, read_checked_header};
use crate::source::WeightSource;

/// The weights of layers `layers` of one model: with the token embedding where
/// that includes the first layer, with final norm and output head where it
/// includes the last. Immutable; sessions bring their own [`KvCache`].
pub struct Stage {
    config: Config,
    layers: LayerRange,
    weights: Vec<Layer>,
    rope: Rope,
    embedding: Option<Arc<Matrix>>,
    head: Option<Head>,
}

/// What turns the last layer's activations into logits.
struct Head {
    norm: Vec<f32>,
    output: Arc<Matrix>,
}

impl Stage {
    /// Loads the stage, reading only `manifest.stage_ranges(layers)` from
    /// `source`, after checking the manifest against the file's header.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        source: &dyn WeightSource,
        manifest: &ModelManifest,
        layers: LayerRange,
    ) -> Result<Self, LoadError> {
        let header = read_checked_header(source, manifest)?;
        let config = Config::from_header(&header).map_err(|error| CheckError::File(error.into()))?;
        if layers.count() == 0 || layers.end() > config.layer_count {
            let layer_count = config.layer_count;
            return Err(LoadError::NoSuchLayers { layers, layer_count });
        }
        let tensors = Tensors { header: &header, source };
        let first = layers.start() == 0;
        let last = layers.end() == config.layer_count;
        let embedding = (first || last && config.tied)
            .then(|| tensors.matrix("token_embd.weight", config.hidden_size).map(Arc::new))
            .transpose()?;
        let factors = tensors.vector_if_any("rope_freqs.weight")?;
        Ok(Self {
            rope: Rope::new(config.rope_size, config.rope_base, factors.as_deref()),
            weights: (layers.start()..layers.end())
                .map(|index| Layer::load(&tensors, &config, index))
                .collect::<Result<_, _>>()?,
            head: last.then(|| Head::load(&tensors, &config, embedding.as_ref())).transpose()?,
            embedding: embedding.filter(|_| first),
            config,
            layers,
        })
    }

    /// The model's numbers.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The layers it holds.
    pub fn layers(&self) -> LayerRange {
        self.layers
    }

    /// Whether it takes token ids: it holds the first layer.
    pub fn is_first(&self) -> bool {
        self.embedding.is_some()
    }

    /// Whether it gives logits: it holds the last layer.
    pub fn is_last(&self) -> bool {
        self.head.is_some()
    }

    /// An empty cache for one session of at most `capacity` tokens (cut at
    /// the model's context length); `8 · kv_size` bytes a token and layer.
    ///
    /// # Errors
    /// [`ForwardError::NoMemory`] where that much is not to be had.
    pub fn new_cache(&self, capacity: u32) -> Result<KvCache, ForwardError> {
        KvCache::new(&self.config, self.layers, capacity).ok_or(ForwardError::NoMemory { tokens: capacity })
    }

    /// Runs 1 to [`ROWS_MAX`] rows at positions `position..` through the
    /// stage. `position` must be the cache's length; if lower, the cache is
    /// truncated to it first. Logits are those of the last row.
    ///
    /// # Errors
    /// See [`ForwardError`]. Rows of a failed call are not in the cache; a
    /// truncation stays.
    pub fn forward(
        &self,
        cache: &mut KvCache,
        input: StageInput<'_>,
        position: u32,
    ) -> Result<StageOutput, ForwardError> {
        let rows = input.rows();
        if rows == 0 || rows > ROWS_MAX {
            return Err(ForwardError::Rows { rows });
        }
        self.seek(cache, rows, position)?;
        let mut x = self.first_activations(input)?;
        let turns = self.rope.turns(position, rows);
        for (slot, layer) in self.weights.iter().enumerate() {
            layer.forward(&self.config, &turns, &mut x, cache, slot)?;
        }
        let output = self.finish(x, rows)?;
        if !output.is_finite() {
            return Err(ForwardError::NonFiniteOutput);
        }
        #[allow(clippy::cast_possible_truncation)] // at most ROWS_MAX
        cache.commit(rows as u32);
        Ok(output)
    }

    /// Brings the cache to `position` and makes sure `rows` more fit.
    fn seek(&self, cache: &mut KvCache, rows: usize, position: u32) -> Result<(), ForwardError> {
        let same_shape =
            cache.layer_count() == self.weights.len() && cache.kv_size() == self.config.kv_size() as usize;
        if !same_shape {
            return Err(ForwardError::ForeignCache);
        }
        if position > cache.len() {
            return Err(ForwardError::Gap { position, expected: cache.len() });
        }
        if u64::from(position) + rows as u64 > u64::from(cache.capacity()) {
            return Err(ForwardError::ContextFull { capacity: cache.capacity() });
        }
        cache.truncate(position);
        Ok(())
    }

    /// Token ids become their embeddings; activations are checked.
    fn first_activations(&self, input: StageInput<'_>) -> Result<Vec<f32>, ForwardError> {
        match (input, &self.embedding) {
            (StageInput::Tokens(tokens), Some(embedding)) => {
                let vocabulary = embedding.rows();
                match tokens.iter().find(|&&token| token as usize >= vocabulary) {
                    Some(&token) => Err(ForwardError::UnknownToken { token }),
                    None => Ok(embedding.lookup(tokens)?),
                }
            }
            (StageInput::Hidden(activations), None) => {
                let (found, expected) = (activations.width(), self.config.hidden_size as usize);
                if found != expected {
                    return Err(ForwardError::Width { found, expected });
                }
                if !activations.is_finite() {
                    return Err(ForwardError::NonFiniteInput);
                }
                Ok(activations.into_values())
            }
            (StageInput::Tokens(_), None) => Err(ForwardError::WrongKind { wanted: "activations" }),
            (StageInput::Hidden(_), Some(_)) => Err(ForwardError::WrongKind { wanted: "token ids" }),
        }
    }

    fn finish(&self, x: Vec<f32>, rows: usize) -> Result<StageOutput, ForwardError> {
        let width = self.config.hidden_size as usize;
        match &self.head {
            Some(head) => {
                let last = &x[(rows - 1) * width..];
                let normed = rms_norm(last, &head.norm, self.config.norm_epsilon);
                Ok(StageOutput::Logits(head.output.apply(&normed)?))
            }
            None => Ok(StageOutput::Hidden(Activations::new(rows, width, x)?)),
        }
    }
}

impl Head {
    fn load(
        tensors: &Tensors<'_>,
        config: &Config,
        embedding: Option<&Arc<Matrix>>,
    ) -> Result<Self, LoadError> {
        let norm = tensors.vector("output_norm.weight")?;
        let output = match embedding {
            Some(embedding) if config.tied => Arc::clone(embedding),
            _ => Arc::new(tensors.matrix("output.weight", config.hidden_size)?),
        };
        Ok(Self { norm, output })
    }
}

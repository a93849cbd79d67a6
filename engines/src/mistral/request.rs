//! Requests to mistralrs' queue. Each has its own wide channel, and waits until mistralrs has dropped the request.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Tensor};
use milepost_runtime::Result;
use mistralrs::core::Response;
use mistralrs::{Model, NormalRequest, Request, RequestMessage, SamplingParams};
use tokio::sync::mpsc;

use super::sampler::Sampler;
use crate::failed;
use crate::sampling::{Sampled, Sampling};

/// Why a request failed.
enum Failure {
    /// mistralrs' thread has ended; the next request starts it again.
    Closed,
    /// Anything else.
    Other(String),
}

/// Samples a completion; if mistralrs' thread ends, it tries once more from the beginning.
pub(super) async fn sample(model: &Model, prompt_ids: &[u32], sampling: &Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled> {
    for attempt in 0.. {
        let sampler = Arc::new(Sampler::new(sampling.clone(), cancelled.clone()));
        match sample_once(model, prompt_ids, &sampler, sampling.max_tokens).await {
            Ok(()) => return Ok(sampler.sampled()),
            Err(Failure::Closed) if attempt == 0 => tracing::warn!("the model's engine stopped and is started again"),
            Err(Failure::Closed) => break,
            Err(Failure::Other(reason)) => return Err(failed(reason)),
        }
    }
    Err(failed("the model's engine stopped twice in a row; see the log for its panic"))
}

/// Samples a completion in one attempt.
async fn sample_once(model: &Model, prompt_ids: &[u32], sampler: &Arc<Sampler>, max_tokens: usize) -> Result<(), Failure> {
    // The channel holds the longest completion, because a full channel would stall mistralrs.
    let (sender, mut receiver) = mpsc::channel(max_tokens + 8);
    let mut request = normal_request(model, prompt_ids.to_vec(), sender);
    request.sampling_params.max_len = Some(max_tokens);
    request.is_streaming = true;
    request.logits_processors = Some(vec![sampler.clone()]);
    send(model, request).await?;
    let mut answered = Err(Failure::Closed);
    while let Some(response) = receiver.recv().await {
        answered = match response {
            Response::CompletionChunk(_) | Response::CompletionDone(_) => Ok(()),
            Response::CompletionModelError(reason, _) | Response::ModelError(reason, _) => Err(Failure::Other(reason)),
            Response::ValidationError(error) | Response::InternalError(error) => Err(Failure::Other(error.to_string())),
            _ => Err(Failure::Other("the engine answered something else than a completion".into())),
        };
    }
    // The channel is closed, so mistralrs has dropped the sequence. The sampler's record says whether it is complete.
    match sampler.error() {
        Some(reason) => Err(Failure::Other(reason)),
        None if sampler.sampled().finished => Ok(()),
        None => answered.and(Err(Failure::Closed)),
    }
}

/// Computes the logits at every position of `ids`, F32 `[T, vocab]`; if mistralrs' thread ends, it tries once more.
pub(super) async fn logits(model: &Model, ids: &[u32]) -> Result<Tensor> {
    for _ in 0..2 {
        match logits_once(model, ids).await {
            Ok(logits) => return Ok(logits),
            Err(Failure::Closed) => tracing::warn!("the model's engine stopped and is started again"),
            Err(Failure::Other(reason)) => return Err(failed(reason)),
        }
    }
    Err(failed("the model's engine stopped twice in a row; see the log for its panic"))
}

/// Computes logits in one attempt.
async fn logits_once(model: &Model, ids: &[u32]) -> Result<Tensor, Failure> {
    let (sender, mut receiver) = mpsc::channel(8);
    let mut request = normal_request(model, ids.to_vec(), sender);
    request.sampling_params.max_len = Some(1);
    request.return_raw_logits = true;
    send(model, request).await?;
    let mut result = Err(Failure::Closed);
    while let Some(response) = receiver.recv().await {
        result = match response {
            Response::Raw { logits_chunks, .. } => join(&logits_chunks).map_err(|error| Failure::Other(error.to_string())),
            Response::CompletionModelError(reason, _) | Response::ModelError(reason, _) => Err(Failure::Other(reason)),
            Response::ValidationError(error) | Response::InternalError(error) => Err(Failure::Other(error.to_string())),
            _ => Err(Failure::Other("the engine answered something else than logits".into())),
        };
    }
    result
}

/// Joins the chunks of logits into one tensor `[T, vocab]`.
fn join(chunks: &[Tensor]) -> candle_core::Result<Tensor> {
    let rows: Vec<Tensor> = chunks
        .iter()
        .map(|chunk| {
            let vocab = chunk.dim(candle_core::D::Minus1)?;
            chunk.to_dtype(DType::F32)?.reshape(((), vocab))
        })
        .collect::<candle_core::Result<_>>()?;
    Tensor::cat(&rows, 0)
}

fn normal_request(model: &Model, ids: Vec<u32>, sender: mpsc::Sender<Response>) -> NormalRequest {
    let message = RequestMessage::CompletionTokens(ids);
    NormalRequest::new_simple(message, SamplingParams::deterministic(), sender, model.inner().next_request_id(), None, None)
}

async fn send(model: &Model, request: NormalRequest) -> Result<(), Failure> {
    let sender = model.inner().get_sender(None).map_err(|error| Failure::Other(error.to_string()))?;
    sender.send(Request::Normal(Box::new(request))).await.map_err(|_| Failure::Closed)
}

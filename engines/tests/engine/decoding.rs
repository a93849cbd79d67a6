//! Tests that decoding gives the model's own distribution, whatever other requests are in flight.

use std::sync::Arc;

use milepost_engines::LocalEngine;
use milepost_runtime::{Engine, GenerateRequest, Generated, Message, Speaker};
use milepost_text::TextModel;

use crate::model::{SMALL, TestModel, check_decoding, free};

/// Generates these requests at the same time, and returns the answers in their order.
async fn together(engine: &Arc<LocalEngine>, numbers: impl Iterator<Item = u64>, max_tokens: usize) -> Vec<Generated> {
    let one = |number| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.generate(free(number, max_tokens)).await.unwrap() })
    };
    let mut answers = Vec::new();
    for task in numbers.map(one).collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    answers
}

/// Fails if two requests share a batch, because all sequences but one then get the attention output of another. (Only sequences of the same
/// length are batched, so these requests have the same prompt.)
#[tokio::test(flavor = "multi_thread")]
async fn eight_at_once_decode_as_teacher_forced() {
    let model = TestModel::new(SMALL, 1);
    let engine = Arc::new(model.engine().await);
    let one = |seed| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.generate(GenerateRequest { seed, ..free(3, 24) }).await.unwrap() })
    };
    for task in (0..8).map(one).collect::<Vec<_>>() {
        let answer = task.await.unwrap();
        check_decoding(engine.as_ref(), &answer.call, 1e-4).await;
        assert_eq!(answer.call.completion_ids.len(), answer.ends.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_tokens_in_any_schedule() {
    let model = TestModel::new(SMALL, 1);
    let engine = Arc::new(model.engine().await);
    let crowd = together(&engine, (0..8).rev(), 24).await;
    for (number, crowded) in (0..8).rev().zip(crowd) {
        let alone = engine.generate(free(number, 24)).await.unwrap();
        assert_eq!(alone.call.completion_ids, crowded.call.completion_ids);
        assert_eq!(alone.call.logprobs, crowded.call.logprobs);
    }
    let other = engine.generate(GenerateRequest { seed: 77, ..free(0, 24) }).await.unwrap();
    assert_ne!(other.call.completion_ids, engine.generate(free(0, 24)).await.unwrap().call.completion_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_takes_the_most_probable_and_records_at_one() {
    let model = TestModel::new(SMALL, 1);
    let engine = model.engine().await;
    let greedy = GenerateRequest { temperature: 0.0, ..free(3, 16) };
    let answers = [engine.generate(greedy.clone()).await.unwrap(), engine.generate(GenerateRequest { seed: 9, ..greedy }).await.unwrap()];
    assert_eq!(answers[0].call.completion_ids, answers[1].call.completion_ids, "greedy has no seed");
    check_decoding(&engine, &answers[0].call, 1e-4).await;
}

/// Fails if several requests are in flight, or if dropping one request breaks the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_harms_nobody() {
    let model = TestModel::new(SMALL, 1);
    let engine = Arc::new(model.engine().await);
    let want = engine.generate(free(2, 24)).await.unwrap();
    for round in 0..6 {
        let victim = tokio::spawn({
            let engine = engine.clone();
            async move { engine.generate(free(100 + round, 400)).await }
        });
        let scored = tokio::spawn({
            let (engine, call) = (engine.clone(), want.call.clone());
            async move { crate::model::rescore(engine.as_ref(), &call, None).await }
        });
        let others = together(&engine, [2, 2].into_iter(), 24);
        let abort = async {
            for _ in 0..round * 40 {
                tokio::task::yield_now().await;
            }
            victim.abort();
            scored.abort();
        };
        let (others, ()) = tokio::join!(others, abort);
        for other in others {
            assert_eq!(other.call.completion_ids, want.call.completion_ids);
            assert_eq!(other.call.logprobs, want.call.logprobs);
        }
    }
}

/// Fails if the prefix cache is on: its entries end in a token whose key and value were never computed.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_continues_an_answer_is_read_from_its_beginning() {
    let model = TestModel::new(SMALL, 1);
    let (engine, fresh) = (model.engine().await, model.engine().await);
    let text = TextModel::load(model.path()).unwrap();
    let mut continued = 0;
    for seed in 0..60 {
        let first = GenerateRequest { seed, ..free(4, 3) };
        let answer = engine.generate(first.clone()).await.unwrap();
        if text.tokenizer.encode_plain(&answer.text).unwrap() != answer.call.completion_ids {
            continue;
        }
        continued += 1;
        let said = Message { role: Speaker::Assistant, content: answer.text };
        let next = GenerateRequest { messages: [first.messages, vec![said, Message::user("more")]].concat(), ..free(4, 8) };
        let (got, want) = (engine.generate(next.clone()).await.unwrap(), fresh.generate(next).await.unwrap());
        assert!(got.call.prompt_ids.starts_with(&[answer.call.prompt_ids, answer.call.completion_ids].concat()));
        assert_eq!(got.call.logprobs, want.call.logprobs);
    }
    assert!(continued > 2, "only {continued} answers are spelled as the tokenizer spells them");
}

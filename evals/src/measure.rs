//! One item under every arm: a greedy answer, and the likelihood of the right one, on the same
//! token ids.
//!
//! The greedy answer comes first, so that its first token is timed before anything of its arm but
//! the clean fragments is cached. The right answer is forced on the model token by token: were it
//! in the tail, a policy that goes by the tail would choose its rows by the answer.

use crate::{
    arm::{Arm, Joined, KV, Way},
    backend::{Answer, Backend, Call},
    item::Item,
    metrics::{
        Numbers,
        distribution::{Forced, shared_tokens},
        text::{Nearness, is_refusal, share},
    },
    prompt::{Prompt, Texts},
    record::ItemNumbers,
};
use anyhow::{Context as _, ensure};
use engine::{JoinPolicy, TokenLogprob};
use std::sync::Arc;

/// Likeliest tokens that KL is taken over: as many as the API gives.
pub(crate) const ALTERNATIVES: usize = 200;

/// Tokens of the first chunk of [`Way::Rechunked`]: three pages and one, so that every later chunk
/// begins elsewhere than in a plain prefill.
const FIRST_CHUNK: usize = 97;

/// Measures items.
pub(crate) struct Measure<'a> {
    pub(crate) backend: &'a mut dyn Backend,
    pub(crate) texts: &'a Texts,
    pub(crate) arms: &'a [Arm],
    /// Begins the names of tenants: what an earlier run cached must not be found.
    pub(crate) run: String,
}

/// What one arm gave.
struct Given {
    greedy: Answer,
    gold: Vec<TokenLogprob>,
}

impl Measure<'_> {
    /// All arms' numbers on one item.
    pub(crate) fn item(&mut self, item: &Item) -> anyhow::Result<ItemNumbers> {
        let prompt = self.texts.prompt(item)?;
        let needs = prompt.len() + item.max_tokens.max(prompt.gold.len());
        let (id, group) = (item.id.clone(), item.group.clone());
        let (question, fragments) = (item.question, item.fragments.len());
        let too_long = (needs > self.backend.card().context_max).then_some(needs);
        let mut arms = Vec::new();
        if too_long.is_none() {
            let mut oracle: Option<Given> = None;
            for &arm in self.arms {
                let given = self.arm(item, &prompt, arm);
                let given = given.with_context(|| format!("item {id} under {arm}"))?;
                arms.push(self.numbers(
                    item,
                    &prompt,
                    (arm, &given),
                    oracle.as_ref().unwrap_or(&given),
                ));
                oracle.get_or_insert(given);
            }
        }
        Ok(ItemNumbers { id, question, group, fragments, too_long, arms })
    }

    fn arm(&mut self, item: &Item, prompt: &Prompt, arm: Arm) -> anyhow::Result<Given> {
        let mut tenant = format!("{}/{}", self.run, item.id);
        let joined = arm.joined(prompt);
        if arm.way == Way::Rechunked {
            // It must not find what `recompute` left in the prefix cache.
            tenant.push_str("/rechunked");
            self.cache_first_chunk(&tenant, prompt)?;
        }
        if arm.reuses() {
            self.encode(&tenant, &joined, prompt)?;
        }
        let call = Call {
            tenant: &tenant,
            joined: &joined,
            tail: &prompt.tail,
            forced: &[],
            max_tokens: item.max_tokens,
            logprobs: None,
        };
        let greedy = self.backend.generate(&call)?;
        let forced = Call {
            forced: &prompt.gold,
            max_tokens: prompt.gold.len(),
            logprobs: Some(ALTERNATIVES),
            ..call
        };
        let gold = self.backend.generate(&forced)?.scores;
        let (got, asked) = (gold.len(), prompt.gold.len());
        ensure!(got == asked, "{got} scores for {asked} tokens of the right answer");
        Ok(Given { greedy, gold })
    }

    /// Encodes what the arm should find cached. What has no root is no fragment that could be put:
    /// a call that asks for nothing leaves it cached.
    fn encode(&mut self, tenant: &str, joined: &Joined, prompt: &Prompt) -> anyhow::Result<()> {
        if !joined.root.is_empty() {
            return self.backend.encode(tenant, joined);
        }
        let (tail, forced) = (&prompt.tail[..1], &[][..]);
        let call = Call { tenant, joined, tail, forced, max_tokens: 0, logprobs: None };
        self.backend.generate(&call).map(drop)
    }

    /// Leaves a few whole pages in the prefix cache, so that what follows is prefilled from there.
    fn cache_first_chunk(&mut self, tenant: &str, prompt: &Prompt) -> anyhow::Result<()> {
        ensure!(
            self.backend.has_tenants(),
            "{} needs the engine in this process: a server would answer from its prefix cache",
            Way::Rechunked
        );
        let placed = prompt.placements.iter().flat_map(|tokens| tokens.iter());
        let all: Vec<_> = prompt.root.iter().chain(placed).chain(&prompt.tail).copied().collect();
        if all.len() <= FIRST_CHUNK {
            return Ok(());
        }
        let root = Arc::from(&all[..FIRST_CHUNK - 1]);
        let policy = JoinPolicy::Recompute;
        let joined = Joined { kv: KV, policy, root, placements: Vec::new() };
        let call = Call {
            tenant,
            joined: &joined,
            tail: &all[FIRST_CHUNK - 1..FIRST_CHUNK],
            forced: &[],
            max_tokens: 1,
            logprobs: None,
        };
        self.backend.generate(&call).map(drop)
    }

    fn numbers(
        &self,
        item: &Item,
        prompt: &Prompt,
        (arm, given): (Arm, &Given),
        oracle: &Given,
    ) -> Numbers {
        let answer = &given.greedy;
        let text = item.reading.read(&self.texts.tokenizer.decode(&answer.tokens, false));
        let nearness = Nearness::of(&text, &item.answers);
        let forced = Forced::of(&given.gold, &oracle.gold);
        let finds_what_it_should = if arm.reuses() {
            answer.encoded == 0
        } else {
            // The root may be cached: it is shared with whatever came before.
            answer.reused == 0 && answer.prefix_reused <= prompt.root.len()
        };
        let is_timed = finds_what_it_should && arm.way != Way::Rechunked;
        Numbers {
            f1: nearness.f1,
            em: nearness.em,
            sub_em: nearness.sub_em,
            rouge_l: nearness.rouge_l,
            refused: share(is_refusal(&text)),
            nll: forced.nll,
            kl_first: forced.kl_first,
            kl: forced.kl,
            top1_first: forced.top1_first,
            top1: forced.top1,
            same_answer: share(answer.tokens == oracle.greedy.tokens),
            same_tokens: shared_tokens(&answer.tokens, &oracle.greedy.tokens) as f64,
            first_token_ms: is_timed.then_some(answer.first_token_ms),
            share_recomputed: is_timed.then_some(answer.recomputed_share),
            exact: answer.exact,
            context_tokens: prompt.len(),
        }
    }
}

//! What happens in the demo, and what is checked on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use exo_inference::chat::{Message, Role};
use exo_inference::generate::{GenerateOptions, LocalModel};
use exo_inference::manifest::derive_manifest;
use exo_inference::plan::stage_memory_bytes;
use exo_inference::sample::Sampling;
use exo_inference::starter::{STARTER_GGUF, starter_weights};
use exo_model::amount::Amount;
use exo_model::weights::{LayerRange, ModelManifest};
use exo_sync::blobs::aligned;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::DemoArgs;
use super::narrator::Narrator;
use super::peer::{Peer, PeerOptions};
use crate::bytes::human;
use crate::report::{
    AnswerReport, AuditReport, BalanceReport, HoldingsReport, MemberReport, MessageReport, PeerReport,
    StageReport, StatusReport,
};

const COMMUNITY: &str = "The Garden";
const NAMES: [&str; 3] = ["Ana", "Ben", "Chloe"];
const MAX_TOKENS: u32 = 96;
/// Longest wait for something to become true on every peer.
const SETTLE: Duration = Duration::from_secs(45);
/// Pause between looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
struct Messages {
    messages: Vec<MessageReport>,
}

impl Messages {
    /// What everyone sees alike: how far a message has got only its author knows.
    fn words(&self) -> Vec<MessageReport> {
        self.messages.iter().map(|m| MessageReport { delivery: None, ..m.clone() }).collect()
    }
}

#[derive(Debug, Deserialize)]
struct Members {
    members: Vec<MemberReport>,
}

#[derive(Debug, Deserialize)]
struct Peers {
    peers: Vec<PeerReport>,
}

#[derive(Debug, Deserialize)]
struct Ticket {
    ticket: String,
}

#[derive(Debug, Deserialize)]
struct Stages {
    stages: Vec<StageReport>,
}

#[derive(Debug, Deserialize)]
struct Balances {
    balances: Vec<BalanceReport>,
    sum: i64,
}

/// The three nodes and the one who tells of them.
struct Stage<'a> {
    peers: Vec<Peer>,
    narrator: &'a mut Narrator,
}

/// Tells the whole story; the report is what `--json` prints.
pub(super) async fn tell(args: &DemoArgs, folder: &Path, narrator: &mut Narrator) -> anyhow::Result<Value> {
    let manifest = derive_manifest(&starter_weights(), exo_model::hash::blake3(STARTER_GGUF))
        .context("the model built into this program")?;
    let mut stage = open(args, folder, narrator, &manifest).await?;
    stage.found_and_join().await?;
    stage.talk_apart_and_together().await?;
    let shared = stage.share_the_model(&manifest).await?;
    let answer = stage.ask(args, &manifest).await?;
    let balances = stage.settle(&answer).await?;
    let agreed = stage.agree().await?;
    let refused = stage.refuse_the_hostile(&agreed).await?;

    let report = json!({
        "ok": true,
        "peers": stage.peers.len(),
        "community": COMMUNITY,
        "model": answer.model,
        "plan": answer.plan.iter().map(|s| json!({"peer": s.peer, "layers": s.layers})).collect::<Vec<_>>(),
        "bytes_fetched": shared.iter().map(|s| (s.peer.clone(), s.fetched_bytes)).collect::<BTreeMap<_, _>>(),
        "model_bytes": manifest.size_bytes,
        "question": args.ask,
        "text": answer.text,
        "tokens": answer.tokens,
        "tokens_per_second": answer.tokens_per_second,
        "balances": balances.iter().map(|b| (b.name.clone(), b.token_mib)).collect::<BTreeMap<_, _>>(),
        "balances_sum": balances.iter().map(|b| b.token_mib).sum::<i64>(),
        "members": agreed.members,
        "messages": agreed.messages,
        "state_hash": agreed.state_hash,
        "refused": refused,
    });
    if args.window {
        stage.narrator.note("Ana's window stays open. Close it to end the demo.");
        stage.peers.remove(0).ended().await;
    }
    for peer in stage.peers.drain(..) {
        peer.stop().await?;
    }
    stage.narrator.end("Every check held on all three peers.");
    Ok(report)
}

/// Memory that lets each of three machines hold one third and no two hold all.
fn offered_bytes(manifest: &ModelManifest) -> anyhow::Result<u64> {
    let layers = manifest.layer_count();
    ensure!(layers >= 3, "the built-in model has too few layers to split");
    let cuts: Vec<u32> = (0..=3).map(|third| layers * third / 3).collect();
    let needed = cuts.windows(2).filter_map(|cut| LayerRange::new(cut[0], cut[1])).map(|part| {
        let context = manifest.context_length.min(2_048);
        stage_memory_bytes(manifest, part, context)
    });
    needed.max().context("no layers")
}

async fn open<'a>(
    args: &DemoArgs,
    folder: &Path,
    narrator: &'a mut Narrator,
    manifest: &ModelManifest,
) -> anyhow::Result<Stage<'a>> {
    let offered = offered_bytes(manifest)?;
    narrator.step("Three people start Exo-Studio, each with their own folder, key and port");
    let mut peers = Vec::new();
    for (index, name) in NAMES.into_iter().enumerate() {
        let data = folder.join(name.to_lowercase());
        ensure!(
            !data.join("profile.json").exists(),
            "{} was used before; choose an empty folder",
            data.display()
        );
        let options = PeerOptions {
            name,
            data: &data,
            offered_bytes: offered,
            starter: index == 0,
            window: args.window && index == 0,
        };
        let peer = Peer::start(options).await?;
        narrator.note(&format!("{name}: process {}, device {}…", peer.pid, &peer.device[..12]));
        peers.push(peer);
    }
    narrator.note(&format!(
        "Each offers {} of memory. Ben and Chloe run without the built-in model.",
        human(offered)
    ));
    Ok(Stage { peers, narrator })
}

impl Stage<'_> {
    async fn found_and_join(&mut self) -> anyhow::Result<()> {
        self.narrator.step("Ana founds a community; Ben and Chloe join with invite tickets");
        self.peers[0].tell(json!({"command": "found", "name": "Ana", "community": COMMUNITY})).await?;
        self.narrator.note(&format!("Ana founds \"{COMMUNITY}\" and is its owner."));
        for index in [1, 2] {
            let Ticket { ticket } = self.peers[0].call(json!({"command": "invite"})).await?;
            let name = self.peers[index].name;
            self.narrator.note(&format!(
                "Ana gives {name} a ticket: {}… ({} characters)",
                &ticket[..24],
                ticket.len()
            ));
            let join = json!({"command": "join", "name": name, "ticket": ticket});
            self.peers[index].tell(join).await?;
            self.narrator.note(&format!("{name} is in."));
        }
        let members: Vec<Members> = self
            .all_agree(
                "the members",
                json!({"command": "members"}),
                |m: &Members| m.members.iter().map(|m| (m.name.clone(), m.role.clone())).collect::<Vec<_>>(),
                |members| members.len() == NAMES.len(),
            )
            .await?;
        let names: Vec<_> = members[0].members.iter().map(|m| format!("{} ({})", m.name, m.role)).collect();
        self.narrator.held(&format!("all three see the same members: {}", names.join(", ")));
        self.all_linked().await
    }

    /// Waits until each peer is linked to both others, and knows what they offer.
    async fn all_linked(&mut self) -> anyhow::Result<()> {
        let linked: Vec<Peers> = self
            .each_until(
                "every peer to be linked to both others",
                json!({"command": "peers"}),
                |all: &[Peers]| {
                    let is_ready = |peer: &&PeerReport| peer.path == "direct" && peer.offered_bytes > 0;
                    all.iter().all(|p| p.peers.iter().filter(is_ready).count() == 2)
                },
            )
            .await?;
        let rtts: Vec<f64> =
            linked.iter().flat_map(|p| p.peers.iter().filter_map(|peer| peer.rtt_ms)).collect();
        let mean = rtts.iter().sum::<f64>() / f64::from(u32::try_from(rtts.len().max(1))?);
        self.narrator.held(&format!("every peer has a direct link to the others ({mean:.2} ms round trip)"));
        Ok(())
    }

    async fn talk_apart_and_together(&mut self) -> anyhow::Result<()> {
        self.narrator.step("They talk; Chloe goes offline, everybody goes on writing, she comes back");
        self.say(0, "Welcome to the garden!").await?;
        self.wait_for_messages(1).await?;
        self.say(1, "Hello Ana, the tomatoes are red.").await?;
        self.wait_for_messages(2).await?;
        self.say(2, "Hi both! I am on the train.").await?;
        self.same_history(3).await?;
        self.peers[2].tell(json!({"command": "online", "online": false})).await?;
        self.narrator.note("Chloe's train enters a tunnel: she is offline.");
        self.say(0, "Shall we ask the model how invites work?").await?;
        self.say(2, "No network here, but I keep writing.").await?;
        self.ben_has(4).await?;
        self.say(1, "Good idea, my machine is free.").await?;
        let apart = self.histories().await?;
        ensure!(
            apart[2].messages.len() == 4,
            "Chloe, offline, should see 4 messages, not {}",
            apart[2].messages.len()
        );
        ensure!(
            !apart[0].messages.iter().any(|m| m.text.starts_with("No network")),
            "Ana sees what Chloe wrote offline"
        );
        self.narrator.held("apart: Chloe does not see their new messages, nor they hers");
        self.peers[2].tell(json!({"command": "online", "online": true})).await?;
        self.narrator.note("Chloe is back.");
        let messages = self.same_history(6).await?;
        for message in messages {
            self.narrator.note(&format!("    {}: {}", message.author, message.text));
        }
        self.all_linked().await
    }

    async fn say(&mut self, index: usize, text: &str) -> anyhow::Result<()> {
        self.peers[index].tell(json!({"command": "say", "text": text})).await
    }

    async fn histories(&mut self) -> anyhow::Result<Vec<Messages>> {
        // Views follow the store within milliseconds; look until they rest.
        tokio::time::sleep(LOOK_EVERY * 4).await;
        self.each(&json!({"command": "history"})).await
    }

    async fn wait_for_messages(&mut self, count: usize) -> anyhow::Result<()> {
        let arrived = |all: &[Messages]| all.iter().all(|history| history.messages.len() == count);
        self.each_until("a message to arrive", json!({"command": "history"}), arrived).await.map(drop)
    }

    /// Waits until Ben, who can, sees what Ana wrote.
    async fn ben_has(&mut self, count: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.peers[1].call::<Messages>(json!({"command": "history"})).await?.messages.len() < count {
            ensure!(begun.elapsed() < SETTLE, "Ben does not get Ana's message");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn same_history(&mut self, count: usize) -> anyhow::Result<Vec<MessageReport>> {
        let mut all: Vec<Messages> = self
            .all_agree("the same history", json!({"command": "history"}), Messages::words, |messages| {
                messages.len() == count
            })
            .await?;
        self.narrator.held(&format!("all three show the same {count} messages, in the same order"));
        Ok(all.swap_remove(0).messages)
    }

    async fn share_the_model(&mut self, manifest: &ModelManifest) -> anyhow::Result<Vec<StageReport>> {
        self.narrator.step("Ana adds the model built into the program; the plan splits it over all three");
        self.peers[0].tell(json!({"command": "add_model"})).await?;
        self.narrator.note(&format!(
            "\"{}\": {} layers, {}; too much for any one or two of these machines.",
            manifest.name,
            manifest.layer_count(),
            human(manifest.size_bytes)
        ));
        let (events, mut news) = mpsc::unbounded_channel::<Value>();
        let Self { peers, narrator } = self;
        let names: BTreeMap<String, &str> =
            peers.iter().map(|peer| (peer.device.clone(), peer.name)).collect();
        let show = async {
            while let Some(event) = news.recv().await {
                if let (Some(device), Some(received)) = (event["device"].as_str(), event["received"].as_u64())
                {
                    let total = event["total"].as_u64().unwrap_or_default();
                    let name = names.get(device).copied().unwrap_or("someone");
                    narrator.progress(name, received, total);
                }
            }
        };
        let share = peers[0].call_with_events(json!({"command": "share"}), Some(events));
        let (shared, ()) = tokio::join!(share, show);
        let Stages { stages } = shared?;
        ensure!(stages.len() == NAMES.len(), "the plan has {} stages, not three", stages.len());
        let mut reached = 0;
        for stage in &stages {
            ensure!(stage.layers[0] == reached, "the plan leaves layers out");
            reached = stage.layers[1];
            self.narrator.note(&format!(
                "{} hosts layers {}..{}, fetched {}",
                stage.peer,
                stage.layers[0],
                stage.layers[1],
                human(stage.fetched_bytes)
            ));
        }
        ensure!(reached == manifest.layer_count(), "the plan leaves layers out");
        self.check_fetched(&stages, manifest).await?;
        Ok(stages)
    }

    /// What lies on Ben's and Chloe's disks is exactly what their layers need.
    async fn check_fetched(
        &mut self,
        stages: &[StageReport],
        manifest: &ModelManifest,
    ) -> anyhow::Result<()> {
        for stage in stages.iter().filter(|stage| stage.peer != NAMES[0]) {
            let layers = LayerRange::new(stage.layers[0], stage.layers[1]).context("an empty stage")?;
            let wanted = aligned(&manifest.stage_ranges(layers), manifest.size_bytes);
            let wanted_bytes: u64 = wanted.iter().map(|range| range.len()).sum();
            ensure!(
                stage.fetched_bytes == wanted_bytes && wanted_bytes < manifest.size_bytes,
                "{} fetched {} bytes, its layers take {wanted_bytes}",
                stage.peer,
                stage.fetched_bytes
            );
            let peer =
                self.peers.iter_mut().find(|peer| peer.name == stage.peer).context("an unknown peer")?;
            let holdings: HoldingsReport = peer.call(json!({"command": "holdings"})).await?;
            let expected: Vec<[u64; 2]> = wanted.iter().map(|range| [range.start, range.end]).collect();
            ensure!(holdings.ranges == expected, "{} holds other bytes than its layers' ones", stage.peer);
            self.narrator.held(&format!(
                "{} has exactly the bytes of its layers: {} of {}, each verified on arrival",
                stage.peer,
                human(wanted_bytes),
                human(manifest.size_bytes)
            ));
        }
        Ok(())
    }

    async fn ask(&mut self, args: &DemoArgs, manifest: &ModelManifest) -> anyhow::Result<AnswerReport> {
        self.narrator.step(&format!("Ana asks: \"{}\"", args.ask));
        let (events, mut news) = mpsc::unbounded_channel::<Value>();
        let Self { peers, narrator } = self;
        let show = async {
            while let Some(event) = news.recv().await {
                if let Some(text) = event["text"].as_str() {
                    narrator.stream(text);
                }
            }
        };
        let question = json!({"command": "ask", "question": args.ask, "max_tokens": MAX_TOKENS});
        let ask = peers[0].call_with_events::<AnswerReport>(question, Some(events));
        let (answer, ()) = tokio::join!(ask, show);
        let answer = answer?;
        ensure!(answer.tokens > 0 && !answer.text.trim().is_empty(), "the answer is empty");
        let served: Vec<_> = answer.plan.iter().map(|stage| stage.peer.as_str()).collect();
        ensure!(served.len() == NAMES.len(), "not all three took part");
        self.narrator.note(&format!(
            "{} tokens through {}, {:.1} tokens a second",
            answer.tokens,
            served.join(" → "),
            answer.tokens_per_second
        ));
        let alone = alone(&args.ask, manifest)?;
        ensure!(alone == answer.text, "one machine alone answers otherwise: \"{alone}\"");
        self.narrator.held("the same model, whole on one machine, gives the same text, letter by letter");
        self.narrator.note("This model knows only the handbook and can be wrong.");
        Ok(answer)
    }

    async fn settle(&mut self, answer: &AnswerReport) -> anyhow::Result<Vec<BalanceReport>> {
        self.narrator.step("The work is paid: locks, signed vouchers, settlement");
        let spent: i64 = answer.spent.iter().map(|(_, amount)| amount).sum();
        let all: Vec<Balances> = self
            .all_agree(
                "settled balances",
                json!({"command": "balances"}),
                |b: &Balances| b.balances.clone(),
                |balances| {
                    balances.len() == NAMES.len()
                        && balances.iter().all(|b| b.held_token_mib == 0)
                        && balances.iter().any(|b| b.name == NAMES[0] && b.token_mib == -spent)
                },
            )
            .await?;
        ensure!(spent > 0 && all.iter().all(|b| b.sum == 0), "balances do not sum to zero");
        let balances = all.into_iter().next().context("no balances")?.balances;
        for (name, amount) in &answer.spent {
            let paid = balances.iter().find(|b| b.name == *name).map(|b| b.token_mib);
            ensure!(paid == Some(*amount), "{name} was vouched {amount} and has {paid:?}");
        }
        for balance in &balances {
            let amount = Amount::from_token_mib(balance.token_mib);
            self.narrator.note(&format!("{:<6} {} token·MiB = {amount}", balance.name, balance.token_mib));
        }
        self.narrator.held("all three show the same balances, and they sum to zero");
        Ok(balances)
    }

    async fn agree(&mut self) -> anyhow::Result<Agreed> {
        self.narrator.step("Everyone compares, each from their own database");
        let statuses: Vec<StatusReport> = self
            .all_agree(
                "one state",
                json!({"command": "status"}),
                |s: &StatusReport| (s.state_hash.clone(), s.digest.clone(), s.members),
                |(_, _, members)| *members == NAMES.len(),
            )
            .await?;
        let state_hash: Vec<String> = statuses.iter().map(|status| status.state_hash.clone()).collect();
        self.narrator.held(&format!("one state hash on all three: {}…", &state_hash[0][..16]));
        let members: Vec<Members> = self.each(&json!({"command": "members"})).await?;
        ensure!(members.iter().all(|m| m.members == members[0].members), "members differ");
        let histories: Vec<Messages> = self.each(&json!({"command": "history"})).await?;
        ensure!(histories.iter().all(|h| h.words() == histories[0].words()), "chats differ");
        self.narrator.held("the same members and the same chat");
        let audits: Vec<AuditReport> = self.each(&json!({"command": "audit"})).await?;
        ensure!(audits.iter().all(|audit| audit.feeds == audits[0].feeds && audit.feeds > 0), "feeds differ");
        self.narrator
            .held(&format!("{} feeds open in Automerge with the heads that were signed", audits[0].feeds));
        Ok(Agreed {
            members: members[0].members.iter().map(|member| member.name.clone()).collect(),
            messages: histories[0].messages.len(),
            state_hash,
            digest: statuses[0].digest.clone(),
        })
    }

    async fn refuse_the_hostile(&mut self, agreed: &Agreed) -> anyhow::Result<usize> {
        self.narrator
            .step("Someone at Ben's machine sends Ana a forged change and a malformed, oversize frame");
        let ana = self.peers[0].device.clone();
        let mut seen = self.status_of_ana().await?.refusals.len();
        let before = seen;
        for (hostility, words) in [("forged_change", "signature"), ("oversize_frame", "frame of")] {
            self.peers[1].tell(json!({"command": "probe", "peer": ana, "hostility": hostility})).await?;
            let begun = Instant::now();
            let refusal = loop {
                let status = self.status_of_ana().await?;
                if status.refusals.len() > seen {
                    seen = status.refusals.len();
                    break status.refusals.last().cloned().unwrap_or_default();
                }
                ensure!(begun.elapsed() < SETTLE, "Ana did not refuse the {hostility}");
                tokio::time::sleep(LOOK_EVERY).await;
            };
            ensure!(refusal.contains(words), "refused for another reason: {refusal}");
            self.narrator.held(&format!("refused: {refusal}"));
        }
        let after = self.status_of_ana().await?;
        ensure!(
            after.digest == agreed.digest && after.state_hash == agreed.state_hash[0],
            "the hostile bytes changed something"
        );
        self.narrator.held("nothing of it is in Ana's store; her state is what it was");
        Ok(seen - before)
    }

    async fn status_of_ana(&mut self) -> anyhow::Result<StatusReport> {
        self.peers[0].call(json!({"command": "status"})).await
    }

    /// Asks every peer.
    async fn each<T: DeserializeOwned>(&mut self, command: &Value) -> anyhow::Result<Vec<T>> {
        let mut answers = Vec::new();
        for peer in &mut self.peers {
            answers.push(peer.call(command.clone()).await?);
        }
        Ok(answers)
    }

    /// Asks every peer again and again until `done` holds.
    async fn each_until<T: DeserializeOwned>(
        &mut self,
        what: &str,
        command: Value,
        done: impl Fn(&[T]) -> bool,
    ) -> anyhow::Result<Vec<T>> {
        let begun = Instant::now();
        loop {
            let answers = self.each::<T>(&command).await?;
            if done(&answers) {
                return Ok(answers);
            }
            if begun.elapsed() > SETTLE {
                bail!("waited {} s for {what}", SETTLE.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks until all answers agree in `key` and that is as `wanted`.
    async fn all_agree<T: DeserializeOwned, K: PartialEq>(
        &mut self,
        what: &str,
        command: Value,
        key: impl Fn(&T) -> K,
        wanted: impl Fn(&K) -> bool,
    ) -> anyhow::Result<Vec<T>> {
        self.each_until(what, command, |all: &[T]| {
            let first = all.first().map(&key);
            first.is_some_and(|first| wanted(&first) && all.iter().all(|answer| key(answer) == first))
        })
        .await
    }
}

/// What all three peers agreed on.
struct Agreed {
    members: Vec<String>,
    messages: usize,
    state_hash: Vec<String>,
    digest: String,
}

/// The whole model in this process: what the split one is compared with.
fn alone(question: &str, manifest: &ModelManifest) -> anyhow::Result<String> {
    let model = LocalModel::open(&starter_weights(), manifest)?;
    let options = GenerateOptions {
        max_tokens: MAX_TOKENS,
        context_tokens: manifest.context_length,
        sampling: Sampling::GREEDY,
    };
    let messages = [Message::new(Role::User, question)];
    let answer = model.generate(&messages, &options, &mut |_| std::ops::ControlFlow::Continue(()))?;
    Ok(answer.text)
}

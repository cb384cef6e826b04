//! Invites from the hand of one person into that of another.

use std::process::Output;

use exo_model::invite::Ticket;
use serde_json::{Value, json};

use super::{Node, program};

fn garden(folder: &tempfile::TempDir) -> Node {
    let mut ana = Node::start(folder.path());
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    ana
}

fn invite(ana: &mut Node, terms: Value) -> Value {
    let mut command = json!({"command": "invite"});
    for (name, value) in terms.as_object().expect("terms") {
        command[name] = value.clone();
    }
    ana.ok(command)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn state_of(ana: &mut Node, id: &Value) -> Value {
    let invites = ana.ok(json!({"command": "invites"}));
    let invites = invites["invites"].as_array().expect("invites").clone();
    invites.into_iter().find(|invite| invite["id"] == *id).unwrap_or_else(|| panic!("no invite {id}"))
}

/// Tries to join as `name` with a fresh folder; returns the refusal.
fn refused(name: &str, ticket: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stranger = Node::start(folder.path());
    let error = stranger.error(json!({"command": "join", "name": name, "ticket": ticket}));
    // It is out of the way: another invite can be tried.
    let communities = stranger.ok(json!({"command": "communities"}));
    assert_eq!(communities["communities"], json!([]), "{name}");
    error
}

#[test]
fn m7_invites_are_refused_clearly_on_both_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ana = garden(&folder);

    let once = invite(&mut ana, json!({}));
    let ben_folder = tempfile::tempdir().expect("a folder");
    let mut ben = Node::start(ben_folder.path());
    ben.ok(json!({"command": "join", "name": "Ben", "ticket": once["link"]}));
    let used = state_of(&mut ana, &once["id"]);
    assert_eq!((text(&used["state"]), &used["used"], text(&used["maker"])), ("used_up", &json!(1), "Ana"));
    let error = refused("Eve", text(&once["ticket"]));
    assert!(error.contains("already used") && error.contains("ask for a new one"), "{error}");

    let revoked = invite(&mut ana, json!({"uses": 3, "role": "guest"}));
    let short = &text(&revoked["id"])[..12];
    assert_eq!(text(&state_of(&mut ana, &revoked["id"])["state"]), "open");
    ana.ok(json!({"command": "revoke_invite", "invite": short}));
    assert_eq!(text(&state_of(&mut ana, &revoked["id"])["state"]), "revoked");
    let error = refused("Eve", text(&revoked["ticket"]));
    assert!(error.contains("revoked") && error.contains("ask for a new one"), "{error}");

    // A second, and the ticket says so: the newcomer asks nobody.
    let brief = invite(&mut ana, json!({"days": 1e-5}));
    ana.until("the invite to run out", &json!({"command": "invites"}), |answer| {
        let invites = answer["invites"].as_array().expect("invites");
        invites.iter().any(|invite| invite["id"] == brief["id"] && invite["state"] == "expired")
    });
    assert!(refused("Eve", text(&brief["ticket"])).contains("expired"));
    // Where its clock or its ticket says otherwise, the member decides.
    let mut altered: Ticket = text(&brief["ticket"]).parse().expect("a ticket");
    altered.expires_ms = i64::MAX;
    let error = refused("Eve", &altered.to_string());
    assert!(error.contains("expired") && error.contains("ask for a new one"), "{error}");

    let status = ana.ok(json!({"command": "status"}));
    let told: Vec<_> = status["refusals"].as_array().expect("refusals").iter().map(text).collect();
    for why in ["already used", "revoked", "expired"] {
        let is_told = told.iter().any(|line| line.contains("join of \"Eve\"") && line.contains(why));
        assert!(is_told, "{why}: {told:?}");
    }
    assert_eq!(status["members"], json!(2));
}

#[test]
fn bad_invites_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ana = garden(&folder);
    for (terms, words) in [
        (json!({"days": 0}), "at most"),
        (json!({"days": 1e9}), "at most"),
        (json!({"uses": 1_000_000}), "1 to"),
        (json!({"role": "emperor"}), "not a role"),
        (json!({"png": "/does/not/exist/code.png"}), "exist"),
    ] {
        let mut command = terms.clone();
        command["command"] = json!("invite");
        let error = ana.error(command);
        assert!(error.contains(words), "{terms}: {error}");
    }
    // Where its picture cannot be written, no invite stays open that nobody has.
    let invites = ana.ok(json!({"command": "invites"}));
    let invites = invites["invites"].as_array().expect("invites");
    assert!(invites.iter().all(|invite| invite["state"] == "revoked"), "{invites:?}");
    assert!(ana.error(json!({"command": "revoke_invite", "invite": "ffff"})).contains("type invites"));
    assert!(ana.error(json!({"command": "revoke_invite", "invite": ""})).contains("type invites"));
    assert!(ana.error(json!({"command": "join", "name": "Ben", "ticket": "gone.png"})).contains("no file"));
}

fn output(args: &[&str], data: &std::path::Path) -> Output {
    program().args(args).args(["--bind", "127.0.0.1:0", "--data"]).arg(data).output().expect("runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_invite_travels_as_a_picture_and_a_file_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("ana");
    drop(garden_in(&home));
    let (picture, file) = (folder.path().join("code.png"), folder.path().join("garden.exoinvite"));
    let (picture, file) = (picture.to_str().expect("text"), file.to_str().expect("text"));
    let made = output(&["invite", "2", "--png", picture, "--file", file], &home);
    assert!(made.status.success(), "{}", said(&made));
    for expected in
        ["2 people, each as member", "exo-studio://join/exo1", "▀", picture, file, "invite revoke"]
    {
        assert!(said(&made).contains(expected), "{expected}: {}", said(&made));
    }
    let again = output(&["invite", "--png", picture], &home);
    assert!(!again.status.success() && said(&again).contains("exists already"), "{}", said(&again));
    let listed = output(&["invites"], &home);
    assert!(listed.status.success(), "{}", said(&listed));
    let listed = said(&listed);
    assert!(listed.contains("2 of 2 uses left") && listed.contains("made by Ana"), "{listed}");

    let mut ana = Node::start(&home);
    let busy = output(&["invite"], &home);
    assert!(!busy.status.success() && said(&busy).contains("type \"invite\""), "{}", said(&busy));
    for (name, source) in [("Ben", picture), ("Cleo", file)] {
        let place = folder.path().join(name);
        let joined = output(&["join", name, source], &place);
        assert!(joined.status.success(), "{}", said(&joined));
        assert!(said(&joined).contains("You are in Garden"), "{}", said(&joined));
    }
    ana.until("both to be members", &json!({"command": "members"}), |answer| {
        answer["members"].as_array().is_some_and(|members| members.len() == 3)
    });
    let refused = output(&["join", "Dan", picture], &folder.path().join("dan"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("already used"), "{}", said(&refused));
    let nothing = output(&["join", "Dan", "hello"], &folder.path().join("dan"));
    assert!(!nothing.status.success() && said(&nothing).contains("no invite in it"), "{}", said(&nothing));
}

fn garden_in(home: &std::path::Path) -> Node {
    let mut ana = Node::start(home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    // Ended, not killed: what follows needs the folder at once.
    drop(ana.child.stdin.take());
    ana.child.wait().expect("ends");
    ana
}

#[test]
fn a_join_and_a_message_show_how_far_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ana = garden(&folder);
    ana.ok(json!({"command": "say", "text": "before Ben"}));
    let alone = ana.ok(json!({"command": "history"}));
    assert_eq!(alone["messages"][0]["delivery"], json!({"state": "written", "devices": 0, "of": 0}));
    let ticket = invite(&mut ana, json!({}))["ticket"].clone();
    ana.ok(json!({"command": "online", "online": false}));

    let ben_folder = tempfile::tempdir().expect("a folder");
    let mut ben = Node::start(ben_folder.path());
    ben.write(&json!({"id": 900, "command": "join", "name": "Ben", "ticket": ticket}).to_string());
    ben.until("the join to begin", &json!({"command": "communities"}), |answer| {
        answer["communities"].as_array().is_some_and(|communities| communities.len() == 1)
    });
    let status = ben.until("a round of asking", &json!({"command": "status"}), |status| {
        status["join"]["rounds"].as_u64() > Some(0)
    });
    assert_eq!((text(&status["standing"]), text(&status["community"])), ("joining", "Garden"));
    assert!(!text(&status["join"]["last_error"]).is_empty());
    let entry = ben.ok(json!({"command": "communities"}))["communities"][0].clone();
    assert_eq!((text(&entry["name"]), text(&entry["join"]["state"])), ("Garden", "trying"));
    ana.ok(json!({"command": "online", "online": true}));
    ben.until("Ben to be in", &json!({"command": "status"}), |status| status["standing"] == "member");

    ana.ok(json!({"command": "say", "text": "hello Ben"}));
    let history = ana.until("everyone to have it", &json!({"command": "history"}), |history| {
        let messages = history["messages"].as_array().expect("messages");
        messages.iter().all(|message| message["delivery"]["state"] == "everyone")
    });
    assert_eq!(history["messages"][1]["delivery"], json!({"state": "everyone", "devices": 1, "of": 1}));
    let seen = ben.until("the messages", &json!({"command": "history"}), |history| {
        history["messages"].as_array().is_some_and(|messages| messages.len() == 2)
    });
    assert!(seen["messages"][0].get("delivery").is_none(), "only its author knows: {seen}");
    let peers = ben.until("a link", &json!({"command": "peers"}), |peers| {
        peers["peers"][0]["path"] == "direct" && peers["peers"][0]["rtt_ms"].is_number()
    });
    assert_eq!(text(&peers["peers"][0]["name"]), "Ana");

    // Who is away still has what they had, also when Ana starts again.
    drop(ben);
    drop(ana.child.stdin.take());
    ana.child.wait().expect("ends");
    let mut ana = Node::start(folder.path());
    let history = ana.ok(json!({"command": "history"}));
    assert_eq!(history["messages"][1]["delivery"], json!({"state": "everyone", "devices": 1, "of": 1}));
}

//! Temporary: convergence stalls.

mod common;

use common::net::*;
use std::time::{Duration, Instant};

async fn report(what: &str, nodes: &[&Node]) {
    let start = Instant::now();
    let mut told = false;
    while !nodes.windows(2).all(|p| p[0].home.digest() == p[1].home.digest()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if start.elapsed() > Duration::from_secs(4) && !told {
            told = true;
            println!("STALL {what}");
            for n in nodes {
                let mut s = String::new();
                for (f, e) in n.home.replica.positions().await.expect("p") {
                    s += &format!("{}/{}={} ", n.home.state().name_of(&f.device), f.stream, e.seq);
                }
                println!("  {} members={} {} | peers {:?} refusals {:?}", n.home.seed, n.home.state().members.len(), s,
                    n.mesh.peers().iter().map(|p| (n.home.state().name_of(&p.device), p.path)).collect::<Vec<_>>(), n.mesh.refusals());
            }
        }
        if start.elapsed() > Duration::from_secs(70) { println!("  never"); return; }
    }
    if told { println!("  healed after {:?}", start.elapsed()); }
}

async fn scenario(concurrent: bool) {
    let a = Node::found(1).await;
    let (b, c) = if concurrent { tokio::join!(a.befriend(2), a.befriend(3)) } else {
        let b = a.befriend(2).await;
        let c = a.befriend(3).await;
        (b, c)
    };
    report(if concurrent { "concurrent" } else { "serial" }, &[&a, &b, &c]).await;
    a.close().await; b.close().await; c.close().await;
}

#[tokio::test]
async fn serial() { for _ in 0..25 { scenario(false).await; } }
#[tokio::test]
async fn concurrent() { for _ in 0..25 { scenario(true).await; } }
#[tokio::test]
async fn done() { panic!("stop here") }

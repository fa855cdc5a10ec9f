//! A page for people: how the jobs stand, what they can resume from, and why the supervisor did what it did.
//!
//! One HTML file without anything from elsewhere, served on the loopback interface alone. It can only be looked at: whoever
//! opens it can make Drey do nothing. What it shows is asked for over the supervisor's socket.

pub mod model;
pub mod server;
pub mod story;

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};
use tracing::{error, info};

use crate::config::Settings;
use crate::telemetry::one_line;
use server::Server;

/// How long until a taken address is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves the page from now on, where the settings say where. Nothing about it is a reason to leave a job unsupervised, so
/// it has a thread of its own and an address that is taken is tried again.
pub fn serve(settings: &Settings) {
    let Some(address) = settings.status_page else {
        return;
    };
    let server = Server::new(settings.socket.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let started = runtime.and_then(|runtime| {
        std::thread::Builder::new()
            .name("status-page".to_owned())
            .spawn(move || {
                runtime.block_on(async move { server.serve(listen(address).await).await });
            })
    });
    if let Err(error) = started {
        error!(error = one_line(&error, 200), "No status page is served");
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "Serving the status page");
                return listener;
            }
            Err(error) => {
                error!(%address, error = one_line(&error, 200), "No status page can be served here");
                sleep(AGAIN).await;
            }
        }
    }
}

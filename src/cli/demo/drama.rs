//! Decides what goes wrong while the demo plays: one gateway is killed and started again on its store, one is away for a while.
//! Never touches more than one at a time.

use std::cell::RefCell;
use std::time::Duration;

use super::super::Failure;
use super::board::{Board, Screen, Standing};
use super::cast::{City, FOSHAN, XIAMEN};
use super::stage::Gateways;

/// After so many of a hundred messages have ended it happens, and lasts so long.
const KILLED: (usize, Duration) = (15, Duration::from_secs(1));
const AWAY: (usize, Duration) = (40, Duration::from_secs(3));
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lets both happen, and returns when all gateways serve again.
pub async fn play(board: &RefCell<Board>, gateways: &Gateways<'_>, screen: &Screen) -> Result<(), Failure> {
    until(board, KILLED.0).await;
    gateways.kill(FOSHAN.code).await?;
    board.borrow_mut().stands(FOSHAN.code, Standing::Killed);
    tell(screen, &FOSHAN, ("'s gateway is killed (SIGKILL)", "的网关被强制终止（SIGKILL）"));
    tokio::time::sleep(KILLED.1).await;
    again(board, gateways, screen, &FOSHAN)?;

    until(board, AWAY.0).await;
    gateways.stop(XIAMEN.code).await?;
    board.borrow_mut().stands(XIAMEN.code, Standing::Away);
    tell(screen, &XIAMEN, ("'s gateway is away", "的网关离线"));
    tokio::time::sleep(AWAY.1).await;
    again(board, gateways, screen, &XIAMEN)
}

fn again(board: &RefCell<Board>, gateways: &Gateways<'_>, screen: &Screen, city: &'static City) -> Result<(), Failure> {
    gateways.start(city.code)?;
    board.borrow_mut().stands(city.code, Standing::Serves);
    tell(screen, city, ("'s gateway is started again on its store", "的网关在原有存储上重新启动"));
    Ok(())
}

fn tell(screen: &Screen, city: &City, (en, zh): (&str, &str)) {
    screen.tell(&format!("* {}{en}", city.en), &format!("* {}{zh}", city.zh));
}

async fn until(board: &RefCell<Board>, percent: usize) {
    loop {
        let (all, ended) = board.borrow().count();
        if ended * 100 >= all * percent {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

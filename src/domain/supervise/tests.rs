//! One table for each arm of `decide`: the situation, and what is done in it.

mod asks;
mod ends;
mod every;
mod open;
mod scene;

// SPDX-License-Identifier: MPL-2.0
//! Clips that play side by side in the terminal, to choose one with the keys.
//!
//! Two pixels share a character cell: the half block `▀` shows the upper one in its colour, the lower one in that of the ground behind it.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{
    Attribute, Color, Print, SetAttribute, SetBackgroundColor, SetForegroundColor,
};
use crossterm::{cursor, event, execute, queue, terminal};

use crate::picture::{FilterType, Picture};

/// Cells between two clips, and between them and the edge.
const GAP: u16 = 1;
/// The line at the bottom that tells the keys.
const HELP: &str = "arrows: choose   Enter: enhance   q: leave";

/// A clip and what stands below it.
pub struct Tile {
    /// Its name.
    pub label: String,
    /// Its frames, all of one size.
    pub frames: Vec<Picture>,
}

/// Plays `tiles` at `frames_per_second` until one is chosen: its index, or `None` if the user leaves without.
///
/// # Errors
///
/// If the terminal cannot be drawn on or read.
pub fn choose(tiles: &[Tile], frames_per_second: f64) -> Result<Option<usize>> {
    let _screen = Screen::enter()?;
    let period = Duration::from_secs_f64(1.0 / frames_per_second.clamp(1.0, 60.0));
    let mut size = terminal::size()?;
    let mut grid = Grid::new(tiles, size)?;
    let (mut chosen, mut frame, mut due) = (0, 0, Instant::now());
    loop {
        let mut picture = Vec::new();
        grid.draw(&mut picture, chosen, frame)?;
        let mut out = std::io::stdout().lock();
        out.write_all(&picture)?;
        out.flush()?;
        drop(out);
        due = (due + period).max(Instant::now());
        frame += 1;
        while event::poll(due.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let stop = key.modifiers.contains(KeyModifiers::CONTROL);
                    match grid.pressed(key.code, stop, chosen) {
                        Answer::Look(index) => chosen = index,
                        Answer::Take => return Ok(Some(chosen)),
                        Answer::Leave => return Ok(None),
                    }
                }
                Event::Resize(columns, rows) => size = (columns, rows),
                _ => {}
            }
        }
        if grid.size != size {
            execute!(std::io::stdout(), terminal::Clear(terminal::ClearType::All))?;
            grid = Grid::new(tiles, size)?;
        }
    }
}

/// The terminal's second screen without an echo of keys, given back when dropped.
struct Screen;

impl Screen {
    fn enter() -> Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(
            std::io::stdout(),
            terminal::EnterAlternateScreen,
            cursor::Hide
        )?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = execute!(
            std::io::stdout(),
            cursor::Show,
            terminal::LeaveAlternateScreen
        );
        let _ = terminal::disable_raw_mode();
    }
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Look(usize),
    Take,
    Leave,
}

/// The clips at the size at which they fit into a terminal.
struct Grid<'a> {
    tiles: &'a [Tile],
    /// Columns and rows of the terminal.
    size: (u16, u16),
    /// Clips in a row.
    across: usize,
    /// Each clip's frames, scaled.
    scaled: Vec<Vec<Picture>>,
}

impl<'a> Grid<'a> {
    fn new(tiles: &'a [Tile], size: (u16, u16)) -> Result<Self> {
        let shape = tiles
            .iter()
            .find_map(|tile| tile.frames.first())
            .map_or((16, 9), Picture::size);
        let (across, (width, height)) = layout(tiles.len(), size, shape);
        let scale = |frame: &Picture| frame.resized(width, height, FilterType::Bilinear);
        let scaled = tiles
            .iter()
            .map(|tile| tile.frames.iter().map(scale).collect())
            .collect::<Result<_>>()?;
        Ok(Self {
            tiles,
            size,
            across,
            scaled,
        })
    }

    /// Writes frame number `frame` of each clip, counted round and round, with clip `chosen` marked.
    fn draw(&self, out: &mut impl Write, chosen: usize, frame: usize) -> Result<()> {
        queue!(out, terminal::BeginSynchronizedUpdate)?;
        for (index, (tile, frames)) in self.tiles.iter().zip(&self.scaled).enumerate() {
            let Some(picture) = frames.get(frame % frames.len().max(1)) else {
                continue;
            };
            let (columns, lines) = (picture.width() as u16, (picture.height() / 2) as u16);
            let left = GAP + (index % self.across) as u16 * (columns + GAP);
            let top = (index / self.across) as u16 * (lines + 1);
            for line in 0..lines {
                queue!(out, cursor::MoveTo(left, top + line))?;
                cells(out, picture, u32::from(line))?;
            }
            let mark = if index == chosen {
                Attribute::Reverse
            } else {
                Attribute::Reset
            };
            let label: String = tile.label.chars().take(usize::from(columns)).collect();
            queue!(
                out,
                cursor::MoveTo(left, top + lines),
                SetAttribute(mark),
                Print(label),
                SetAttribute(Attribute::Reset)
            )?;
        }
        let help: String = HELP.chars().take(usize::from(self.size.0)).collect();
        queue!(
            out,
            cursor::MoveTo(0, self.size.1.saturating_sub(1)),
            Print(help),
            terminal::EndSynchronizedUpdate
        )?;
        Ok(())
    }

    /// What `key`, with the control key held or not, asks for while clip `chosen` is marked.
    fn pressed(&self, key: KeyCode, control: bool, chosen: usize) -> Answer {
        let last = self.tiles.len().saturating_sub(1);
        match key {
            KeyCode::Char('c' | 'd') if control => Answer::Leave,
            KeyCode::Char('q') | KeyCode::Esc => Answer::Leave,
            KeyCode::Enter => Answer::Take,
            KeyCode::Left => Answer::Look(chosen.saturating_sub(1)),
            KeyCode::Right => Answer::Look((chosen + 1).min(last)),
            KeyCode::Up => Answer::Look(chosen.checked_sub(self.across).unwrap_or(chosen)),
            KeyCode::Down if chosen + self.across <= last => Answer::Look(chosen + self.across),
            _ => Answer::Look(chosen),
        }
    }
}

/// One line of cells: rows `2 * line` and `2 * line + 1` of `picture`.
fn cells(out: &mut impl Write, picture: &Picture, line: u32) -> Result<()> {
    let colour = |x, y| {
        let [r, g, b] = picture.pixel(x, y);
        Color::Rgb { r, g, b }
    };
    for x in 0..picture.width() {
        let (upper, lower) = (colour(x, 2 * line), colour(x, 2 * line + 1));
        queue!(
            out,
            SetForegroundColor(upper),
            SetBackgroundColor(lower),
            Print('▀')
        )?;
    }
    queue!(out, SetAttribute(Attribute::Reset))?;
    Ok(())
}

/// How many of `count` clips of `shape` stand in a row so that they are largest in a terminal of `size`, and how large they then are: pixels,
/// of which a cell holds one beside and two above each other. Below each clip and below all of them is one line of text.
fn layout(count: usize, (columns, rows): (u16, u16), shape: (u32, u32)) -> (usize, (u32, u32)) {
    let gap = u32::from(GAP);
    let of = |across: usize| {
        let down = count.div_ceil(across) as u32;
        let wide = u32::from(columns).saturating_sub(gap) / across as u32;
        let high = u32::from(rows).saturating_sub(1) / down.max(1);
        let most = (wide.saturating_sub(gap), 2 * high.saturating_sub(1));
        let scale =
            (f64::from(most.0) / f64::from(shape.0)).min(f64::from(most.1) / f64::from(shape.1));
        let width = (f64::from(shape.0) * scale) as u32;
        let height = (f64::from(shape.1) * scale) as u32 / 2 * 2;
        (width.max(1), height.max(2))
    };
    (1..=count.max(1))
        .map(|across| (across, of(across)))
        .max_by_key(|(across, (width, height))| (width * height, std::cmp::Reverse(*across)))
        .unwrap_or((1, of(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(count: u8) -> Vec<Tile> {
        let frame = |level| Picture::filled(480, 270, [level, 10, 20]);
        let tile = |index| Tile {
            label: format!("seed {index}"),
            frames: vec![frame(index), frame(100 + index)],
        };
        (0..count).map(tile).collect()
    }

    #[test]
    fn every_clip_fits_into_every_terminal() {
        for count in 1..=64usize {
            for size in [(80, 24), (200, 60), (60, 120), (400, 30)] {
                let (across, (width, height)) = layout(count, size, (480, 270));
                let down = count.div_ceil(across) as u32;
                let used = (1 + across as u32 * (width + 1), down * (height / 2 + 1) + 1);
                assert!(used.0 <= u32::from(size.0), "{count} in {size:?}: {used:?}");
                let fits = used.1 <= u32::from(size.1) || height == 2;
                assert!(fits, "{count} in {size:?}: {used:?}");
            }
        }
        assert_eq!(layout(4, (80, 24), (480, 270)).0, 2);
    }

    #[test]
    fn a_terminal_of_no_size_is_no_panic() {
        for size in [(0, 0), (1, 1), (3, 2)] {
            let clips = tiles(3);
            let grid = Grid::new(&clips, size).unwrap();
            grid.draw(&mut Vec::new(), 0, 0).unwrap();
        }
    }

    #[test]
    fn frames_go_round_and_the_chosen_one_is_marked() {
        let clips = tiles(2);
        let grid = Grid::new(&clips, (80, 24)).unwrap();
        let drawn = |chosen, frame| {
            let mut out = Vec::new();
            grid.draw(&mut out, chosen, frame).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(drawn(0, 0).contains("38;2;1;10;20") && !drawn(0, 0).contains("38;2;101;10;20"));
        assert!(drawn(0, 1).contains("38;2;101;10;20"));
        assert_eq!(drawn(0, 0), drawn(0, 2));
        assert!(drawn(1, 0).contains("\u{1b}[7mseed 1") && drawn(0, 0).contains("\u{1b}[7mseed 0"));
    }

    #[test]
    fn keys_move_take_and_leave() {
        let clips = tiles(5);
        let grid = Grid::new(&clips, (80, 24)).unwrap();
        let across = grid.across;
        assert!(across > 1 && across < 5);
        assert_eq!(grid.pressed(KeyCode::Right, false, 4), Answer::Look(4));
        assert_eq!(grid.pressed(KeyCode::Left, false, 1), Answer::Look(0));
        assert_eq!(grid.pressed(KeyCode::Down, false, 0), Answer::Look(across));
        assert_eq!(grid.pressed(KeyCode::Down, false, 4), Answer::Look(4));
        assert_eq!(grid.pressed(KeyCode::Up, false, across), Answer::Look(0));
        assert_eq!(grid.pressed(KeyCode::Up, false, 0), Answer::Look(0));
        assert_eq!(grid.pressed(KeyCode::Enter, false, 3), Answer::Take);
        assert_eq!(grid.pressed(KeyCode::Char('q'), false, 3), Answer::Leave);
        assert_eq!(grid.pressed(KeyCode::Char('c'), true, 3), Answer::Leave);
        assert_eq!(grid.pressed(KeyCode::Char('c'), false, 3), Answer::Look(3));
    }
}

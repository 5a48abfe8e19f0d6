//! Rows that several spans look at, each from where it stands: found by their pages, and read once
//! for all.

use super::plan::{CUT_ROWS, Job, Look, ROWS_LEAST, SHARED_QUERIES, STATE_FLOATS_MAX, Tile, WAVES};
use super::words::Kind;
use crate::{HiddenRows, PageId};
use std::ops::Range;

/// What is read for several tiles in one call.
#[derive(Debug, Default)]
pub(super) struct Shares {
    readings: Vec<Reading>,
    members: Vec<Member>,
    pieces: Vec<Piece>,
    /// Pieces that the same tiles look at through the same runs.
    groups: Vec<Group>,
    looks: Vec<Look>,
}

/// One piece of work: rows of pages, for the members who look at them.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Rows of the run, the same in every member's.
    pub(super) rows: Range<usize>,
    members: Range<usize>,
}

/// A tile that takes part in a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) tile: usize,
    /// Index of its run in its span.
    pub(super) run: usize,
    /// Where the state of its first row stands, and how far apart those of the next ones are; none
    /// where results are whole.
    pub(super) states: Option<(usize, usize)>,
}

/// A piece of a run that a tile looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    /// Its first page.
    page: PageId,
    number: usize,
    tile: usize,
    run: usize,
    begin: usize,
    end: usize,
}

#[derive(Clone, Debug)]
struct Group {
    pieces: Range<usize>,
    number: usize,
    rows: Range<usize>,
}

impl Shares {
    /// Finds what is shared, and cuts it out of the looks, which stay in order.
    pub(super) fn find(
        &mut self,
        shares: bool,
        job: &Job<'_>,
        tiles: &[Tile],
        looks: &mut Vec<Look>,
    ) {
        self.readings.clear();
        self.members.clear();
        if !shares || job.spans.len() < 2 {
            return;
        }
        self.find_pieces(job, tiles, looks);
        self.group(job, tiles);
        if self.groups.is_empty() {
            return;
        }
        self.looks.clear();
        self.cut(job, tiles);
        self.keep_others(looks);
        self.looks.sort_unstable();
        std::mem::swap(looks, &mut self.looks);
    }

    /// Everything that is read for several tiles.
    pub(super) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Who takes part.
    pub(super) fn members(&self, reading: &Reading) -> &[Member] {
        &self.members[reading.members.clone()]
    }

    /// Notes where a tile's states of a reading stand.
    pub(super) fn note(&mut self, reading: usize, tile: usize, states: Option<(usize, usize)>) {
        let members = &mut self.members[self.readings[reading].members.clone()];
        members.iter_mut().filter(|member| member.tile == tile).for_each(|m| m.states = states);
    }

    /// Pieces of runs whose first page several tiles look at.
    fn find_pieces(&mut self, job: &Job<'_>, tiles: &[Tile], looks: &[Look]) {
        let rows = piece_rows(job);
        let may_share = |look: &&Look| {
            let tile = &tiles[look.tile];
            let few = 2 * tile.rows.len() * job.group() <= SHARED_QUERIES;
            few && matches!(tile.kind, Kind::Decode | Kind::Prefill)
        };
        let first_page = |look: &Look| job.run(&tiles[look.tile], look.run).pages[0];
        let looks = || looks.iter().filter(may_share);
        let mut firsts: Vec<_> = looks().map(|look| (first_page(look), look.tile)).collect();
        firsts.sort_unstable();
        firsts.dedup();
        self.pieces.clear();
        for look in looks() {
            let page = first_page(look);
            let from = firsts.partition_point(|first| first.0 < page);
            if firsts.get(from + 1).is_none_or(|second| second.0 != page) {
                continue;
            }
            let run = job.run(&tiles[look.tile], look.run);
            for number in look.begin / rows..look.end.div_ceil(rows) {
                self.pieces.push(Piece {
                    page: run.pages[number * rows / job.layout.page_rows],
                    number,
                    tile: look.tile,
                    run: look.run,
                    begin: look.begin.max(number * rows),
                    end: look.end.min((number + 1) * rows),
                });
            }
        }
        self.pieces.sort_unstable();
    }

    /// Groups the pieces that are alike, and joins those that follow one another.
    fn group(&mut self, job: &Job<'_>, tiles: &[Tile]) {
        let Self { pieces, groups, .. } = self;
        groups.clear();
        let mut begin = 0;
        while begin < pieces.len() {
            let first = pieces[begin];
            let others = &pieces[begin + 1..];
            let mut last = first.tile;
            let alike = others.iter().take_while(|piece| {
                let is_other = piece.tile != std::mem::replace(&mut last, piece.tile);
                is_other && reads_alike(job, tiles, &first, piece)
            });
            let end = begin + 1 + alike.count();
            if end > begin + 1 {
                let all = &pieces[begin..end];
                let from = all.iter().map(|piece| piece.begin).min().unwrap_or(0);
                let to = all.iter().map(|piece| piece.end).max().unwrap_or(0);
                groups.push(Group { pieces: begin..end, number: first.number, rows: from..to });
            }
            begin = end;
        }
        let who = |group: &Group| pieces[group.pieces.clone()].iter().map(|p| (p.tile, p.run));
        groups.sort_by(|a, b| who(a).cmp(who(b)).then(a.number.cmp(&b.number)));
        let follows = |a: &Group, b: &Group| {
            a.number + 1 == b.number && a.rows.end == b.rows.start && who(a).eq(who(b))
        };
        groups.dedup_by(|next, group| {
            let joins = follows(group, next);
            if joins {
                (group.number, group.rows.end) = (next.number, next.rows.end);
            }
            joins
        });
    }

    /// Cuts groups into readings: of no more queries than a block has, and of so many rows that
    /// blocks are many and alike.
    fn cut(&mut self, job: &Job<'_>, tiles: &[Tile]) {
        let Self { readings, members, pieces, groups, looks } = self;
        let queries = |piece: &Piece| tiles[piece.tile].rows.len() * job.group();
        let blocks = |group: &Group| {
            let all: usize = pieces[group.pieces.clone()].iter().map(queries).sum();
            all.div_ceil(SHARED_QUERIES)
        };
        let rows: usize = groups.iter().map(|group| group.rows.len() * blocks(group)).sum();
        let each = (rows * job.shape.kv_heads).div_ceil(WAVES * job.slots).max(ROWS_LEAST);
        let mut states = 0;
        for group in groups.iter() {
            let cuts = group.rows.len().div_ceil(each);
            let state_rows: usize =
                pieces[group.pieces.clone()].iter().map(|piece| tiles[piece.tile].rows.len()).sum();
            let few = (states + cuts * state_rows) * job.width() <= STATE_FLOATS_MAX;
            let cuts = if few { cuts } else { 1 };
            states += cuts * state_rows;
            let step = group.rows.len().div_ceil(cuts).next_multiple_of(CUT_ROWS);
            for begin in group.rows.clone().step_by(step) {
                let rows = begin..(begin + step).min(group.rows.end);
                let mut held = SHARED_QUERIES;
                for piece in &pieces[group.pieces.clone()] {
                    held += queries(piece);
                    if held > SHARED_QUERIES {
                        held = queries(piece);
                        let members = members.len()..members.len();
                        readings.push(Reading { rows: rows.clone(), members });
                    }
                    let Piece { tile, run, .. } = *piece;
                    members.push(Member { tile, run, states: None });
                    let reading = readings.len() - 1;
                    readings[reading].members.end = members.len();
                    let (begin, end) = (rows.start, rows.end);
                    looks.push(Look { tile, run, begin, end, shared: Some(reading) });
                }
            }
        }
    }

    /// Adds what is left of looks when the rows of groups are taken out.
    fn keep_others(&mut self, from: &[Look]) {
        let mut taken: Vec<_> =
            self.looks.iter().map(|look| (look.tile, look.run, look.begin, look.end)).collect();
        taken.sort_unstable();
        for look in from {
            let first = taken.partition_point(|t| (t.0, t.1) < (look.tile, look.run));
            let own = taken[first..].iter().take_while(|t| (t.0, t.1) == (look.tile, look.run));
            let mut begin = look.begin;
            for &(.., from, to) in own {
                if begin < from {
                    self.looks.push(Look { begin, end: from, ..*look });
                }
                begin = begin.max(to);
            }
            if begin < look.end {
                self.looks.push(Look { begin, ..*look });
            }
        }
    }
}

/// Two pieces may be one reading: the same pages, rows hidden and scores divided alike.
fn reads_alike(job: &Job<'_>, tiles: &[Tile], a: &Piece, b: &Piece) -> bool {
    if (a.page, a.number) != (b.page, b.number) {
        return false;
    }
    let pages_each = piece_rows(job) / job.layout.page_rows;
    let of = |piece: &Piece| {
        let tile = &tiles[piece.tile];
        let run = job.run(tile, piece.run);
        let first = piece.number * pages_each;
        let used = (run.rows as usize).div_ceil(job.layout.page_rows);
        let pages = &run.pages[first..used.min(first + pages_each)];
        let tempered = job.spans[tile.span].tempered.filter(|by| piece.run < by.runs);
        let hidden: Option<*const HiddenRows> = run.hidden.map(std::ptr::from_ref);
        (pages, hidden, tempered.map(|by| by.temperature))
    };
    of(a) == of(b)
}

/// Rows of a piece: whole pages.
fn piece_rows(job: &Job<'_>) -> usize {
    (PIECE_ROWS / job.layout.page_rows).max(1) * job.layout.page_rows
}

/// Rows that are shared or not as one.
const PIECE_ROWS: usize = 512;

//! Measures rows in turn.
//!
//! All rows run once in each round, so that what slows the machine down for a while slows them
//! all. A row's time is its fastest round; beside it stands the median over the rounds of its
//! ratio to the first row, which is the floor.

use std::time::Instant;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often each row is measured.
    pub rounds: usize,
    /// How many requests a round of one row has.
    pub requests: u32,
}

/// Rows that are measured together.
#[derive(Default)]
pub struct Rounds<'a> {
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    name: &'static str,
    run: Box<dyn FnMut(u32) + 'a>,
    /// Nanoseconds for one request, by round.
    nanos: Vec<f64>,
}

impl<'a> Rounds<'a> {
    /// Adds a row; `once` is one request. The first row is the floor.
    pub fn add(&mut self, name: &'static str, mut once: impl FnMut() + 'a) {
        let run = Box::new(move |requests| (0..requests).for_each(|_| once()));
        self.rows.push(Row { name, run, nanos: Vec::new() });
    }

    /// Measures all rows.
    pub fn measure(&mut self, effort: Effort) {
        for row in &mut self.rows {
            (row.run)(effort.requests);
        }
        let count = self.rows.len();
        for round in 0..effort.rounds {
            // Each row follows each other row at some time.
            for nth in 0..count {
                self.rows[(round + nth) % count].measure(effort.requests);
            }
        }
    }

    /// Prints each row with its ratio to the floor.
    pub fn print(&self) {
        let floor = self.rows.first().expect("the floor is a row");
        println!("{:<34} {:>9} {:>8} {:>8}", "", "ns", "x floor", "median");
        for row in &self.rows {
            let ratios = row.nanos.iter().zip(&floor.nanos).map(|(row, floor)| row / floor);
            let (ratio, typical) = (row.fastest() / floor.fastest(), median(ratios.collect()));
            println!("{:<34} {:>9.1} {ratio:>8.2} {typical:>8.2}", row.name, row.fastest());
        }
    }

    /// The nanoseconds of a row.
    #[must_use]
    pub fn spread(&self, name: &str) -> Spread {
        Spread::of(self.row(name).nanos.clone())
    }

    /// A row's ratio to another, round by round.
    #[must_use]
    pub fn ratio(&self, name: &str, floor: &str) -> Spread {
        let pairs = self.row(name).nanos.iter().zip(&self.row(floor).nanos);
        Spread::of(pairs.map(|(row, floor)| row / floor).collect())
    }

    /// The nanoseconds of a row's fastest round.
    #[must_use]
    pub fn nanos(&self, name: &str) -> f64 {
        self.row(name).fastest()
    }

    fn row(&self, name: &str) -> &Row<'a> {
        self.rows.iter().find(|row| row.name == name).expect("the row was added")
    }
}

impl Row<'_> {
    fn measure(&mut self, requests: u32) {
        let start = Instant::now();
        (self.run)(requests);
        self.nanos.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(requests));
    }

    fn fastest(&self) -> f64 {
        self.nanos.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Where the middle half of some numbers lies.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// A quarter of them is below.
    pub low: f64,
    /// The one in the middle.
    pub median: f64,
    /// A quarter of them is above.
    pub high: f64,
}

impl Spread {
    /// Of those numbers.
    #[must_use]
    pub fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |quarters| numbers[(numbers.len() - 1) * quarters / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

/// The middle one of some numbers.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

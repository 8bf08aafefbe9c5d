//! Random histories: sessions that commit, hear of some of each other's commits, and commit again. One seed, one history.

use std::collections::BTreeSet;

use herdbook_model::{
    authority::RequestRef,
    edit::{Edit, FieldEdit},
    schema::{CollectionId, FieldId},
    testutil::{
        ANIMALS, Delivery, Herd, STABLES, VANISHED, animal, clear, create, delete, elements, entries, request, set, update, workload::Rng,
    },
    time::Time,
    value::{Float, Scalar},
};

/// What happened, commit by commit, with who knew what at the end.
pub(crate) struct History {
    pub(crate) herd: Herd,
    /// All commits, parents first.
    pub(crate) commits: Vec<Delivery>,
    /// Requests that no replay counts.
    pub(crate) skipped: BTreeSet<RequestRef>,
}

impl History {
    /// Returns the history of `seed` after `steps` steps.
    pub(crate) fn of(seed: u64, steps: u64) -> Self {
        let mut rng = Rng::new(seed);
        let sessions = 2 + rng.index(4);
        let mut history = Self { herd: Herd::new(sessions), commits: Vec::new(), skipped: BTreeSet::new() };
        for _ in 0..steps {
            let who = rng.index(sessions);
            match rng.below(10) {
                0..=4 => history.commit(who, &mut rng),
                _ => history.hear(who, rng.index(sessions), &mut rng),
            }
            if rng.below(8) == 0 {
                history.herd.replicas[who].fold();
            }
        }
        history
    }

    fn commit(&mut self, who: usize, rng: &mut Rng) {
        // Clocks are up to 40 ms apart, more than the steps of a history take: stamps and order of making differ often.
        let now = Time::from_millis(1_700_000_000_000 + self.commits.len() as u64 + 10 * rng.below(5));
        let seed = rng.draw();
        let requests: Vec<_> = (0..1 + rng.below(2)).map(|at| request(seed ^ at, edits(rng))).collect();
        let replica = &self.herd.replicas[who];
        let delivery = replica.sign(replica.header(now), requests);
        for at in 0..delivery.commit.header().request_count {
            if rng.below(12) == 0 {
                let skipped = RequestRef { commit: delivery.commit.id(), request: at };
                self.herd.replicas.iter_mut().for_each(|replica| replica.skip(skipped));
                self.skipped.insert(skipped);
            }
        }
        self.herd.replicas[who].receive(&delivery).expect("its own commit fits its own graph");
        self.commits.push(delivery);
    }

    /// Brings `to` what `from` knows, or the part of it that came to `from` first.
    fn hear(&mut self, to: usize, from: usize, rng: &mut Rng) {
        let known: Vec<_> = self.herd.replicas[from].deliveries().cloned().collect();
        let some = if rng.below(2) == 0 { known.len() } else { rng.index(known.len() + 1) };
        for delivery in &known[..some] {
            self.herd.replicas[to].receive(delivery).expect("commits of a herd fit each other");
        }
    }
}

fn edits(rng: &mut Rng) -> Vec<(CollectionId, Edit)> {
    (0..1 + rng.below(4)).map(|_| edit(rng)).collect()
}

fn edit(rng: &mut Rng) -> (CollectionId, Edit) {
    let document = ["alma", "alma", "alma", "bella", "bella", "clara", "dora"][rng.index(7)];
    match rng.below(40) {
        0 => return (VANISHED, create(document, [set(FieldId(1), "lost")])),
        1..=3 => return (STABLES, update(document, [set(FieldId(2), number(rng)), entries(FieldId(3), [("a", word(rng))], ["b"])])),
        _ => {}
    }
    let edit = match rng.below(10) {
        0 | 1 => delete(document),
        2 => create(document, fields(rng)),
        _ => update(document, fields(rng)),
    };
    (ANIMALS, edit)
}

fn fields(rng: &mut Rng) -> Vec<FieldEdit> {
    let all = [
        animal::NAME,
        animal::WEIGHT,
        animal::BORN,
        animal::SOLD,
        animal::LEGS,
        animal::OWNER,
        animal::EARMARK,
        animal::TAGS,
        animal::YIELDS,
        animal::NO_SUCH_FIELD,
        animal::PENS,
    ];
    let chosen: BTreeSet<_> = (0..rng.below(4)).map(|_| all[rng.index(all.len())]).collect();
    chosen.into_iter().map(|field| change(field, rng)).collect()
}

fn change(field: FieldId, rng: &mut Rng) -> FieldEdit {
    if rng.below(6) == 0 {
        return clear(field);
    }
    if rng.below(40) == 0 {
        // An operation that the field's type does not have: it must change nothing, everywhere alike.
        let is_set = field == animal::TAGS || field == animal::PENS;
        return if is_set { set(field, "not a set") } else { elements(field, ["not a set"], []) };
    }
    match field {
        animal::NAME | animal::OWNER => set(field, word(rng)),
        animal::WEIGHT => set(field, Scalar::Float(Float::new(f64::from(u8::try_from(rng.below(3)).unwrap_or(0))))),
        animal::BORN => set(field, Scalar::Timestamp(number(rng))),
        animal::SOLD => set(field, Scalar::Bool(rng.below(2) == 0)),
        animal::TAGS => {
            let (add, remove) = halves(["p", "q", "r"], rng);
            elements(field, add, remove)
        }
        animal::PENS => {
            let (add, remove) = halves([1, 2, 3], rng);
            elements(field, add, remove)
        }
        animal::YIELDS => {
            let (put, remove) = halves(["x", "y", "z"], rng);
            let put: Vec<_> = put.into_iter().map(|key| (key, number(rng))).collect();
            entries(field, put, remove)
        }
        _ => set(field, number(rng)),
    }
}

/// Splits `all` at random into what is added, what is removed and what is left alone.
fn halves<T>(all: impl IntoIterator<Item = T>, rng: &mut Rng) -> (Vec<T>, Vec<T>) {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for item in all {
        match rng.below(4) {
            0 => add.push(item),
            1 => remove.push(item),
            _ => {}
        }
    }
    (add, remove)
}

fn word(rng: &mut Rng) -> &'static str {
    ["", "ada", "bob"][rng.index(3)]
}

fn number(rng: &mut Rng) -> i64 {
    rng.below(3).cast_signed()
}

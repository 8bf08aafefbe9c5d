//! What documents of every type say, straight from the definition, by explicit sets of ancestors.
//!
//! Written apart from `document`: no version vector, no incremental state, no runs. Each question is asked of the whole list of edits; a
//! sequence is a tree with one node for each character or item, walked by recursion.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use herdbook_model::{
    document::{Conflict, ConflictSibling, Dot, ElementId, Stamp, View},
    edit::{Change, Element, Operation, Place, Side, Span},
    id::CommitId,
    schema::{Clears, CollectionId, Deletes, Field, FieldType, Policy, Schema},
    testutil::Delivery,
    value::{Key, Scalar, Value},
};

/// Every edit that anybody made, with all that its commit stands on.
#[derive(Default)]
pub(crate) struct Definition {
    ancestors: HashMap<CommitId, Rc<BTreeSet<CommitId>>>,
    edits: BTreeMap<(CollectionId, Key), Vec<Written>>,
}

struct Written {
    commit: CommitId,
    place: (u32, u32),
    stamp: Stamp,
    seen: Rc<BTreeSet<CommitId>>,
    operation: Operation,
}

impl Written {
    fn saw(&self, other: &Self) -> bool {
        if self.commit == other.commit { other.place < self.place } else { self.seen.contains(&other.commit) }
    }

    const fn is_create(&self) -> bool {
        matches!(self.operation, Operation::Create(_))
    }
}

impl Definition {
    /// Takes in a commit whose parents it has; requests for which `skips` answers true were never made.
    pub(crate) fn add(&mut self, delivery: &Delivery, skips: impl Fn(u32) -> bool) {
        let (id, header) = (delivery.commit.id(), delivery.commit.header());
        let mut seen = BTreeSet::new();
        for parent in &header.parents {
            seen.extend(self.ancestors[parent].iter().copied());
            seen.insert(*parent);
        }
        let seen = Rc::new(seen);
        self.ancestors.insert(id, seen.clone());
        for (request_at, request) in (0..).zip(&delivery.requests).filter(|(at, _)| !skips(*at)) {
            let request = request.as_ref().expect("only skipped requests are absent");
            for (edit_at, (collection, edit)) in (0..).zip(request.edits()) {
                let dot = Dot { chain: delivery.commit.chain(), counter: header.counter, index: request_at << 16 | edit_at };
                let stamp = Stamp { time: header.time, dot };
                let (operation, seen) = (edit.operation.clone(), seen.clone());
                let written = Written { commit: id, place: (request_at, edit_at), stamp, seen, operation };
                self.edits.entry((collection, edit.key.clone())).or_default().push(written);
            }
        }
    }

    /// Returns every document that was ever edited.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &(CollectionId, Key)> {
        self.edits.keys()
    }

    /// Returns what a reader sees of a document.
    pub(crate) fn view(&self, collection: CollectionId, key: &Key, schema: &Schema) -> Option<View> {
        let edits = &self.edits[&(collection, key.clone())];
        let collection = schema.by_id(collection).ok()?;
        let is_delete = |edit: &&Written| edit.operation == Operation::Delete;
        let unseen = |edit: &&Written, by: &dyn Fn(&Written) -> bool| !edits.iter().any(|other| by(other) && other.saw(edit));
        let lives = edits.iter().any(|edit| !is_delete(&edit) && unseen(&edit, &|other| other.operation == Operation::Delete));
        let standing = edits.iter().filter(|edit| is_delete(edit) && unseen(edit, &|_| true)).map(|edit| edit.stamp);
        let mut graves: Vec<_> = if collection.deletes == Deletes::EditWins { Vec::new() } else { standing.collect() };
        graves.sort_unstable();
        if !lives || collection.deletes == Deletes::DeleteWins && !graves.is_empty() {
            return None;
        }
        let mut view = View { deletes: graves, ..View::default() };
        for field in &collection.fields {
            let place = Spot { edits, field, path: Vec::new(), ty: &field.ty };
            let uncounted = (field.ty == FieldType::Counter).then(|| Value::from(0));
            if let Some(value) = place.read().or(uncounted) {
                view.fields.insert(field.name.clone(), value);
            }
            if matches!(field.policy, Policy::Strict | Policy::Custom(_)) {
                place.conflicts(&mut view.conflicts);
            }
        }
        Some(view)
    }
}

/// A field, or an entry of a map in it, among all edits of its document.
struct Spot<'a> {
    edits: &'a [Written],
    field: &'a Field,
    path: Vec<Arc<str>>,
    ty: &'a FieldType,
}

/// What one edit does at a spot.
struct Act<'a> {
    by: &'a Written,
    /// Whether all that it saw there goes: the document was made anew, or something around it was cleared.
    took: bool,
    change: Option<Change>,
}

impl Act<'_> {
    fn replaces(&self, other: &Act<'_>) -> bool {
        self.by.saw(other.by)
    }
}

impl<'a> Spot<'a> {
    /// Returns what each edit does here, if anything.
    fn acts(&self) -> Vec<Act<'a>> {
        let act = |by: &'a Written| {
            let (Operation::Create(fields) | Operation::Update(fields)) = &by.operation else { return None };
            let mut change = fields.iter().find(|edit| edit.field == self.field.id).map(|edit| edit.change.clone());
            let mut took = by.is_create();
            let mut ty = &self.field.ty;
            for key in &self.path {
                took |= change == Some(Change::Clear);
                // A value of another kind takes the place of the map.
                let (Some(FieldType::Map(of)), true) = (map_of(ty), true) else { return None };
                took |= !matches!(change, None | Some(Change::Entries { .. } | Change::Within(_)));
                ty = of;
                change = match change {
                    Some(Change::Entries { put, remove }) => {
                        let put = put.iter().find(|(put, _)| put == key).map(|(_, value)| Change::Set(value.clone()));
                        put.or_else(|| remove.contains(key).then_some(Change::Clear))
                    }
                    Some(Change::Within(changes)) => changes.iter().find(|(of, _)| of == key).map(|(_, change)| change.clone()),
                    _ => None,
                };
            }
            (took || change.is_some()).then_some(Act { by, took, change })
        };
        self.edits.iter().filter_map(act).collect()
    }

    fn policy(&self) -> Policy {
        match self.field.policy {
            policy @ (Policy::Strict | Policy::Max | Policy::Min | Policy::Custom(_)) => policy,
            _ => Policy::LastWriter,
        }
    }

    const fn keeps_clears(&self) -> bool {
        matches!(self.field.policy, Policy::Strict | Policy::Custom(_))
    }

    /// The stamp below which nothing counts.
    fn floor(&self) -> Option<Stamp> {
        let clears = self.acts().into_iter().filter(|act| act.change == Some(Change::Clear)).map(|act| act.by.stamp).max();
        clears.filter(|_| self.field.clears == Clears::Earlier && self.path.is_empty())
    }

    /// Visible values of the register here, clears among them where they count as such, by stamp.
    fn register(&self) -> Vec<ConflictSibling> {
        let (acts, floor) = (self.acts(), self.floor());
        let written = |act: &Act<'_>| match &act.change {
            Some(Change::Set(value) | Change::Replace(value)) => Some(Some(value.clone())),
            Some(Change::Clear) if self.keeps_clears() => Some(None),
            _ => None,
        };
        let mut siblings = Vec::new();
        for act in &acts {
            let Some(value) = written(act) else { continue };
            let hides = |other: &Act<'_>| match (&other.change, self.policy()) {
                _ if other.took => true,
                (None, _) => false,
                (Some(Change::Set(beats)), Policy::Max) => Some(beats) >= value.as_ref(),
                (Some(Change::Set(beats)), Policy::Min) => Some(beats) <= value.as_ref(),
                _ => true,
            };
            if Some(act.by.stamp) > floor && !acts.iter().any(|other| other.replaces(act) && hides(other)) {
                siblings.push(ConflictSibling { stamp: act.by.stamp, value });
            }
        }
        siblings.sort_by_key(|sibling| sibling.stamp);
        siblings
    }

    fn pick(&self, siblings: &[ConflictSibling]) -> Option<Value> {
        let values = || siblings.iter().filter_map(|sibling| sibling.value.clone());
        match self.policy() {
            Policy::Max => values().max(),
            Policy::Min => values().min(),
            _ => siblings.last()?.value.clone(),
        }
    }

    /// Elements of the set here, and the newest add of any.
    fn set(&self) -> Option<(Value, Stamp)> {
        let (acts, floor) = (self.acts(), self.floor());
        let (mut elements, mut newest) = (BTreeSet::new(), None);
        for act in &acts {
            let Some(Change::Elements { add, .. }) = &act.change else { continue };
            for element in add {
                let hides = |other: &Act<'_>| match &other.change {
                    _ if other.took => true,
                    None => false,
                    Some(Change::Elements { add, remove }) => add.contains(element) || remove.contains(element),
                    Some(_) => true,
                };
                if Some(act.by.stamp) > floor && !acts.iter().any(|other| other.replaces(act) && hides(other)) {
                    elements.insert(element.clone());
                    newest = newest.max(Some(act.by.stamp));
                }
            }
        }
        Some((Value::Set(elements), newest?))
    }

    /// The entries of the map here.
    fn entries(&self) -> BTreeMap<Arc<str>, Self> {
        let Some(FieldType::Map(of)) = map_of(self.ty) else { return BTreeMap::new() };
        let mut keys = BTreeSet::new();
        for act in self.acts() {
            match act.change {
                Some(Change::Entries { put, remove }) => keys.extend(put.into_iter().map(|(key, _)| key).chain(remove)),
                Some(Change::Within(changes)) => keys.extend(changes.into_iter().map(|(key, _)| key)),
                _ => {}
            }
        }
        let spot = |key: Arc<str>| {
            let path = self.path.iter().cloned().chain([key.clone()]).collect();
            (key, Spot { path, ty: of, ..*self })
        };
        keys.into_iter().map(spot).collect()
    }

    fn counter(&self) -> i64 {
        let acts = self.acts();
        let is_reset = |act: &&Act<'_>| matches!(act.change, Some(Change::Clear | Change::Count { reset: true, .. }));
        let newest = acts.iter().filter(is_reset).max_by_key(|act| act.by.stamp);
        let counted = acts.iter().filter_map(|act| match act.change {
            Some(Change::Count { reset: true, add }) if newest.is_some_and(|newest| newest.by.stamp == act.by.stamp) => Some(add),
            Some(Change::Count { reset: false, add }) if newest.is_none_or(|newest| act.by.saw(newest.by)) => Some(add),
            _ => None,
        });
        counted.sum()
    }

    /// Values side by side here, each with its newest stamp: those of the register, and what other kinds there are.
    fn siblings(&self) -> Vec<ConflictSibling> {
        let mut siblings = self.register();
        let floor = self.floor();
        let parts = [self.set(), self.map(), self.list()];
        for (value, stamp) in parts.into_iter().flatten() {
            siblings.push(ConflictSibling { stamp, value: Some(value) });
        }
        siblings.retain(|sibling| Some(sibling.stamp) > floor);
        siblings.sort_by_key(|sibling| sibling.stamp);
        siblings
    }

    fn map(&self) -> Option<(Value, Stamp)> {
        let floor = self.floor();
        let entries = self.entries();
        // Texts and counters have no one stamp to tell; where they stand nothing stands beside the map.
        let any = self.acts().iter().map(|act| act.by.stamp).max()?;
        let newest = entries.values().filter_map(Spot::newest).filter(|stamp| Some(*stamp) > floor).max().unwrap_or(any);
        let read = |spot: Spot<'_>| if floor.is_some() { spot.pick(&spot.above(floor)) } else { spot.read() };
        let entries: BTreeMap<_, _> = entries.into_iter().filter_map(|(key, spot)| Some((key, read(spot)?))).collect();
        (!entries.is_empty()).then_some((Value::Map(entries), newest))
    }

    fn above(&self, floor: Option<Stamp>) -> Vec<ConflictSibling> {
        self.register().into_iter().filter(|sibling| Some(sibling.stamp) > floor).collect()
    }

    /// The newest stamp of what is kept here, clears that count as values among it.
    fn newest(&self) -> Option<Stamp> {
        let parts = [self.set().map(|part| part.1), self.list().map(|part| part.1)];
        let below = self.entries().into_values().filter_map(|spot| spot.newest()).max();
        self.register().iter().map(|sibling| sibling.stamp).chain(parts.into_iter().flatten()).chain(below).max()
    }

    fn read(&self) -> Option<Value> {
        match self.ty {
            FieldType::Counter => Some(self.counter()).filter(|sum| *sum != 0).map(Value::from),
            FieldType::Text => {
                let text: String = self.sequence().into_iter().filter_map(|node| node.letter).collect();
                (!text.is_empty()).then(|| Value::from(text.as_str()))
            }
            _ => self.pick_sibling(),
        }
    }

    fn pick_sibling(&self) -> Option<Value> {
        let siblings = self.siblings();
        if matches!(self.policy(), Policy::Max | Policy::Min) && self.ty.is_register() {
            self.pick(&siblings)
        } else {
            siblings.last()?.value.clone()
        }
    }

    fn conflicts(&self, found: &mut Vec<Conflict>) {
        let differ = |siblings: &[ConflictSibling]| siblings.iter().any(|sibling| sibling.value != siblings[0].value);
        let siblings = self.siblings();
        if differ(&siblings) {
            found.push(Conflict { field: self.field.name.clone(), path: self.path.clone(), siblings });
        }
        for spot in self.entries().into_values() {
            spot.conflicts(found);
        }
        for (at, (_, siblings)) in self.items().into_iter().enumerate() {
            if differ(&siblings) {
                let path = self.path.iter().cloned().chain([at.to_string().into()]).collect();
                found.push(Conflict { field: self.field.name.clone(), path, siblings });
            }
        }
    }

    fn list(&self) -> Option<(Value, Stamp)> {
        let items = self.items();
        let newest = items.iter().flat_map(|(_, siblings)| siblings.iter().map(|sibling| sibling.stamp)).max()?;
        Some((Value::List(items.into_iter().filter_map(|(_, siblings)| self.pick(&siblings)).collect()), newest))
    }

    /// Items of the list here in order, with the values that each has.
    fn items(&self) -> Vec<(ElementId, Vec<ConflictSibling>)> {
        let acts = self.acts();
        let mut values = BTreeMap::<ElementId, Vec<ConflictSibling>>::new();
        let mut places = BTreeMap::<ElementId, ElementId>::new();
        let nodes = self.sequence();
        for node in &nodes {
            let inserted = acts.iter().find(|act| act.by.stamp.dot == node.id.dot).expect("who inserted it");
            let (mut writes, mut moves) = (Vec::new(), Vec::new());
            writes.extend(node.value.clone().map(|value| (inserted, value)));
            for act in acts.iter().filter(|act| act.by.saw(inserted.by)) {
                let Some(Change::List(edit)) = &act.change else { continue };
                writes.extend(edit.sets.iter().filter(|(id, _)| *id == node.id).map(|(_, value)| (act, value.clone())));
                let before: usize = edit.inserts.iter().map(|(_, values)| values.len()).sum();
                for (at, _) in edit.moves.iter().enumerate().filter(|(_, (id, _))| *id == node.id) {
                    let slot = ElementId { dot: act.by.stamp.dot, offset: u32::try_from(before + at).expect("few") };
                    moves.push((act.by.stamp, slot));
                }
            }
            for (act, value) in &writes {
                let hides = |other: &Act<'_>| match &other.change {
                    _ if other.took => true,
                    Some(Change::List(edit)) => {
                        let beaten = |by: &Value| match self.policy() {
                            Policy::Max => by >= value,
                            Policy::Min => by <= value,
                            _ => true,
                        };
                        holds(&edit.deletes, &node.id) || edit.sets.iter().any(|(id, by)| *id == node.id && beaten(by))
                    }
                    Some(_) => true,
                    None => false,
                };
                if !acts.iter().any(|other| other.replaces(act) && hides(other)) {
                    values.entry(node.id).or_default().push(ConflictSibling { stamp: act.by.stamp, value: Some(value.clone()) });
                }
            }
            // A move that saw another takes its place; of concurrent ones the newest counts. Stamps rise along ancestry.
            if let Some((_, slot)) = moves.into_iter().max() {
                places.insert(node.id, slot);
            }
        }
        let mut items = Vec::new();
        for node in &nodes {
            let here = values.keys().filter(|id| places.get(id).unwrap_or(id) == &node.id);
            for id in here {
                let mut siblings = values[id].clone();
                siblings.sort_by_key(|sibling| sibling.stamp);
                items.push((*id, siblings));
            }
        }
        items
    }

    /// The tree of the sequence here, walked in order. Letters and values of deleted elements are left out.
    fn sequence(&self) -> Vec<Node> {
        let mut acts = self.acts();
        acts.sort_by_key(|act| act.by.stamp);
        let mut tree = Tree::default();
        for act in &acts {
            let dot = act.by.stamp.dot;
            let mut offset = 0;
            let mut insert = |place: &Place, letters: Vec<(Option<char>, Option<Value>)>, tree: &mut Tree| {
                let saw = |id: &ElementId| acts.iter().any(|other| other.by.stamp.dot == id.dot && act.by.saw(other.by));
                let known = |element: Option<Element>, tree: &Tree| match element? {
                    Element::Own(offset) => tree.nodes.iter().position(|node| node.id == ElementId { dot, offset }),
                    Element::Known(id) if saw(&id) => tree.nodes.iter().position(|node| node.id == id),
                    Element::Known(_) => None,
                };
                let (parent, other) = (known(place.parent, tree), known(place.other, tree));
                let hang = match (place.side, place.parent, parent, other) {
                    (Side::Right, None, _, right) => (None, Side::Right, right),
                    (Side::Right, _, Some(parent), right) => (Some(parent), Side::Right, right),
                    (Side::Left, _, Some(parent), _) => (Some(parent), Side::Left, None),
                    (Side::Right, _, None, Some(other)) => (Some(other), Side::Left, None),
                    (_, _, None, other) => (other, Side::Right, None),
                };
                for (at, (letter, value)) in letters.into_iter().enumerate() {
                    let id = ElementId { dot, offset };
                    offset += 1;
                    let last = tree.nodes.len().checked_sub(1);
                    let (parent, side, right) = if at == 0 { hang } else { (last, Side::Right, hang.2) };
                    let node = Node { id, stamp: act.by.stamp, parent, side, right, follows: at > 0, letter, value };
                    tree.insert(node);
                }
            };
            match &act.change {
                Some(Change::Text(edit)) => {
                    for (place, text) in &edit.inserts {
                        insert(place, text.chars().map(|letter| (Some(letter), None)).collect(), &mut tree);
                    }
                }
                Some(Change::List(edit)) => {
                    for (place, values) in &edit.inserts {
                        insert(place, values.iter().map(|value| (None, Some(value.clone()))).collect(), &mut tree);
                    }
                    for (_, place) in &edit.moves {
                        insert(place, vec![(None, None)], &mut tree);
                    }
                }
                _ => {}
            }
        }
        let mut nodes: Vec<_> = tree.walk().into_iter().map(|at| tree.nodes[at].clone()).collect();
        for node in &mut nodes {
            let inserted = acts.iter().find(|act| act.by.stamp.dot == node.id.dot).expect("who inserted it");
            let deletes = |act: &Act<'_>| {
                let named = matches!(&act.change, Some(Change::Text(edit)) if holds(&edit.deletes, &node.id));
                act.took || act.change == Some(Change::Clear) || named
            };
            if node.letter.is_some() && acts.iter().any(|act| act.replaces(inserted) && deletes(act)) {
                node.letter = None;
            }
        }
        nodes
    }
}

fn map_of(ty: &FieldType) -> Option<&FieldType> {
    match ty {
        FieldType::Map(_) => Some(ty),
        FieldType::Union(types) => types.iter().find(|ty| matches!(ty, FieldType::Map(_))),
        _ => None,
    }
}

fn holds(spans: &[Span], id: &ElementId) -> bool {
    spans.iter().any(|span| span.from.dot == id.dot && (span.from.offset..span.from.offset + span.len).contains(&id.offset))
}

/// One character or item.
#[derive(Clone)]
struct Node {
    id: ElementId,
    stamp: Stamp,
    parent: Option<usize>,
    side: Side,
    right: Option<usize>,
    /// Whether it was inserted together with its parent, right after it.
    follows: bool,
    letter: Option<char>,
    value: Option<Value>,
}

#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    /// Children of each node on either side, those of the root at the end, in order.
    children: BTreeMap<(Option<usize>, Side), Vec<usize>>,
}

impl Tree {
    fn insert(&mut self, node: Node) {
        let order = self.walk();
        let far = |right: Option<usize>| right.map_or(usize::MAX, |right| order.iter().position(|at| *at == right).expect("walked"));
        let key = |node: &Node| {
            let right = if node.side == Side::Right { usize::MAX - far(node.right) } else { 0 };
            (!node.follows, right, node.stamp, node.id.offset)
        };
        let at = self.nodes.len();
        let siblings = self.children.entry((node.parent, node.side)).or_default();
        let place = siblings.partition_point(|sibling| key(&self.nodes[*sibling]) < key(&node));
        siblings.insert(place, at);
        self.nodes.push(node);
    }

    fn walk(&self) -> Vec<usize> {
        let mut order = Vec::new();
        self.walk_from(None, &mut order);
        order
    }

    fn walk_from(&self, node: Option<usize>, order: &mut Vec<usize>) {
        for side in [Side::Left, Side::Right] {
            if side == Side::Right {
                order.extend(node);
            }
            for child in self.children.get(&(node, side)).into_iter().flatten() {
                self.walk_from(Some(*child), order);
            }
        }
    }
}

/// Returns text as a value, for readers of this file's neighbour.
pub(crate) fn text(value: Option<&Value>) -> &str {
    if let Some(Value::Scalar(Scalar::String(text))) = value { text } else { "" }
}

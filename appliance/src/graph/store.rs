//! The graph as it is kept: derivations as small numbers, with the clients that they are for.

use std::collections::{BTreeSet, HashMap, HashSet};

use nix_compat::{
    derivation::{self, Derivation},
    nixbase32,
    store_path::{STORE_DIR, StorePath},
};

use super::intern::Interner;

/// Derivations held at most, those included that are only known as inputs of others.
pub const MAX_NODES: usize = 100_000;

/// Inputs held at most, of all derivations together: 4 bytes each. Nixpkgs has about ten a derivation.
const MAX_INPUTS: usize = 2_000_000;

/// Outputs of one derivation that are looked for.
const MAX_OUTPUTS: usize = 32;

/// Longest system, name of a feature or of an output, in bytes.
const MAX_WORD: usize = 128;

/// Features of one derivation.
const MAX_FEATURES: usize = 32;

/// Room for the number of a node in an [`Input`]; the rest is for the outputs that are wanted of it.
const NODE_BITS: u32 = 17;
const _: () = assert!(MAX_NODES < 1 << NODE_BITS);

/// The hash part of a store path, which names it among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 20]);

impl Key {
    /// The key of a path.
    #[must_use]
    pub fn of(path: &StorePath) -> Self {
        // 32 characters of nixbase32 are 20 bytes; a store path has no others there.
        let bytes = nixbase32::decode(path.hash_part()).ok().and_then(|b| b.try_into().ok());
        Self(bytes.unwrap_or_default())
    }
}

/// What is known of a derivation, for those who weigh it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its name without `.drv`.
    pub name: &'a str,
    /// Nix's word for what it runs on.
    pub system: &'a str,
    /// `requiredSystemFeatures`.
    pub features: &'a BTreeSet<String>,
    /// Whether the content of its output is known in advance: a download, mostly.
    pub fixed_output: bool,
    /// `preferLocalBuild`.
    pub prefer_local: bool,
}

/// Whom derivations are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u32);

/// Why a derivation was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// There is no room, for this one or for all of its inputs.
    #[error(
        "the graph is full: {MAX_NODES} derivations, {MAX_INPUTS} inputs of them, or too many different systems, features and outputs"
    )]
    Full,
    /// A word in it is longer than any that Nix uses, or there are too many.
    #[error(
        "it has a system, a feature or an output whose name is over {MAX_WORD} bytes, or over {MAX_FEATURES} features"
    )]
    Odd,
}

/// An input: which derivation, and which of its outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input(u32);

impl Input {
    fn new(node: u32, wants: u16) -> Self {
        Self(node | u32::from(wants) << NODE_BITS)
    }

    /// The number of the derivation.
    pub(super) fn node(self) -> usize {
        (self.0 & ((1 << NODE_BITS) - 1)) as usize
    }

    /// The number of the set of outputs.
    fn wants(self) -> u16 {
        u16::try_from(self.0 >> NODE_BITS).unwrap_or(u16::MAX)
    }
}

/// An output whose path is known.
#[derive(Debug)]
struct Output {
    hash: Option<Key>,
    /// The number of its name.
    name: u16,
}

/// What was said of a derivation, which counts more than what is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// Somebody asks for it: it is to be built, whatever there is of it.
    Asked,
    /// It has been built; its outputs may be on their way.
    Built,
}

/// A derivation that has been read.
#[derive(Debug)]
pub(super) struct Body {
    name: Box<str>,
    pub(super) inputs: Box<[Input]>,
    outputs: Box<[Output]>,
    /// Which of the outputs were seen in the store, a bit each.
    there: u32,
    system: u16,
    features: u16,
    fixed_output: bool,
    prefer_local: bool,
    pub(super) told: Told,
}

impl Body {
    /// Whether all outputs are in the store.
    pub(super) fn is_complete(&self) -> bool {
        self.there.count_ones() as usize == self.outputs.len()
    }

    /// Whether any output is in the store.
    pub(super) fn is_begun(&self) -> bool {
        self.there != 0
    }
}

/// A derivation, or what is only known to be an input of one.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    /// How many derivations have it as an input.
    pub(super) referrers: u32,
    /// How many clients it is held for.
    holders: u32,
    pub(super) body: Option<Body>,
}

/// What many derivations have in common.
#[derive(Debug)]
struct Words {
    /// Systems and names of outputs.
    words: Interner<Box<str>>,
    features: Interner<BTreeSet<String>>,
    /// Sets of outputs, as numbers of their names.
    wants: Interner<Box<[u16]>>,
}

impl Words {
    fn new() -> Self {
        Self {
            words: Interner::new(4096),
            features: Interner::new(1024),
            wants: Interner::new(1 << (32 - NODE_BITS)),
        }
    }
}

/// The derivations that clients wait for, and what they need of each other. Several clients may share
/// derivations; what nobody holds any more is forgotten.
#[derive(Debug)]
pub struct Graph {
    pub(super) slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<Key, u32>,
    clients: HashMap<ClientId, HashSet<u32>>,
    next_client: u32,
    /// Inputs of all derivations together.
    inputs: usize,
    /// Derivations that have been read.
    known: usize,
    words: Words,
    /// Derivations whose outputs were never looked for.
    unseen: Vec<u32>,
    /// Where the next look at all others begins.
    next_look: usize,
}

impl Default for Graph {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            clients: HashMap::new(),
            next_client: 0,
            inputs: 0,
            known: 0,
            words: Words::new(),
            unseen: Vec::new(),
            next_look: 0,
        }
    }
}

impl Graph {
    /// A further client, which has no derivations yet.
    pub fn enter(&mut self) -> ClientId {
        let id = ClientId(self.next_client);
        self.next_client = self.next_client.wrapping_add(1);
        self.clients.insert(id, HashSet::new());
        id
    }

    /// How many derivations have been read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Holds a derivation for a client, if it has been read already; tells whether it has.
    pub fn join(&mut self, client: ClientId, key: Key) -> bool {
        let Some(node) = self.known(key) else { return false };
        self.hold(client, node);
        true
    }

    /// Adds a derivation, and holds it for a client.
    ///
    /// # Errors
    /// [`NotAdded`]: the graph is then as it was.
    pub fn add(
        &mut self,
        client: ClientId,
        path: &StorePath,
        drv: &Derivation,
    ) -> Result<(), NotAdded> {
        let key = Key::of(path);
        if self.join(client, key) {
            return Ok(());
        }
        let (mut body, wants) = self.describe(path, drv)?;
        // Nothing is begun that there may be no room for in the end.
        let new = |key: &Key| !self.index.contains_key(key);
        let keys: Vec<Key> = drv.input_drvs.keys().map(Key::of).collect();
        let more = keys.iter().filter(|key| new(key)).count() + usize::from(new(&key));
        if self.index.len() + more > MAX_NODES || self.inputs + keys.len() > MAX_INPUTS {
            return Err(NotAdded::Full);
        }
        let node = self.slot(key);
        let inputs = keys.iter().zip(wants).map(|(key, wants)| {
            let input = self.slot(*key);
            self.slots[input as usize].referrers += 1;
            Input::new(input, wants)
        });
        body.inputs = inputs.collect();
        self.inputs += body.inputs.len();
        self.known += 1;
        self.slots[node as usize].body = Some(body);
        self.unseen.push(node);
        self.hold(client, node);
        Ok(())
    }

    /// Takes note that somebody asks for a derivation.
    pub fn asked(&mut self, key: Key) {
        self.tell(key, Told::Asked);
    }

    /// Takes note that a derivation was built, though its outputs may not be in the store yet, or that
    /// it will not be.
    pub fn ended(&mut self, key: Key, built: bool) {
        self.tell(key, if built { Told::Built } else { Told::Nothing });
    }

    /// Forgets a client, and the derivations that nobody else holds.
    pub fn leave(&mut self, client: ClientId) {
        for node in self.clients.remove(&client).unwrap_or_default() {
            let slot = &mut self.slots[node as usize];
            slot.holders = slot.holders.saturating_sub(1);
            if slot.holders == 0 {
                self.forget(node);
            }
        }
        if self.is_empty() {
            // With the memory of what was in it.
            let clients = std::mem::take(&mut self.clients);
            *self = Self { clients, next_client: self.next_client, ..Self::default() };
        }
    }

    /// Looks for outputs that are not known to be in the store: of all derivations that are new, and of
    /// at most `limit` others, in turn. `exists` is asked for absolute paths.
    pub fn look(&mut self, limit: usize, mut exists: impl FnMut(&str) -> bool) {
        for node in std::mem::take(&mut self.unseen) {
            self.look_at(node as usize, &mut exists);
        }
        for _ in 0..limit.min(self.slots.len()) {
            self.next_look = (self.next_look + 1) % self.slots.len();
            self.look_at(self.next_look, &mut exists);
        }
    }

    /// Bytes that this takes, without the names and what a memory allocator adds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let bodies = self.slots.iter().filter_map(|slot| slot.body.as_ref());
        let lists =
            bodies.map(|b| size_of_val(&*b.inputs) + size_of_val(&*b.outputs)).sum::<usize>();
        let held: usize = self.clients.values().map(|nodes| nodes.capacity() * 5).sum();
        let numbers = (self.free.capacity() + self.unseen.capacity()) * size_of::<u32>();
        let index = self.index.capacity() * (size_of::<(Key, u32)>() + 1);
        self.slots.capacity() * size_of::<Slot>() + lists + held + numbers + index
    }

    /// What a weight is made of.
    pub(super) fn node<'a>(&'a self, body: &'a Body) -> Node<'a> {
        Node {
            name: &body.name,
            system: self.words.words.get(body.system),
            features: self.words.features.get(body.features),
            fixed_output: body.fixed_output,
            prefer_local: body.prefer_local,
        }
    }

    /// Whether everything that `input` stands for is in the store.
    pub(super) fn is_there(&self, input: Input) -> bool {
        let Some(body) = &self.slots[input.node()].body else { return false };
        self.words.wants.get(input.wants()).iter().all(|name| {
            let at = body.outputs.iter().position(|output| output.name == *name);
            at.is_some_and(|at| body.there & (1 << at) != 0)
        })
    }

    fn known(&self, key: Key) -> Option<u32> {
        self.index.get(&key).copied().filter(|node| self.slots[*node as usize].body.is_some())
    }

    fn tell(&mut self, key: Key, told: Told) {
        let node = self.index.get(&key).map(|node| *node as usize);
        if let Some(body) = node.and_then(|node| self.slots[node].body.as_mut()) {
            body.told = told;
        }
    }

    fn hold(&mut self, client: ClientId, node: u32) {
        if self.clients.get_mut(&client).is_some_and(|nodes| nodes.insert(node)) {
            self.slots[node as usize].holders += 1;
        }
    }

    /// The slot of a derivation; a new one if there is none.
    fn slot(&mut self, key: Key) -> u32 {
        if let Some(node) = self.index.get(&key) {
            return *node;
        }
        let slot = Slot { key, referrers: 0, holders: 0, body: None };
        let node = match self.free.pop() {
            Some(node) => {
                self.slots[node as usize] = slot;
                node
            }
            None => {
                // By an eighth, not by its double.
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(64 + self.slots.len() / 8);
                }
                self.slots.push(slot);
                // At most MAX_NODES.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(key, node);
        node
    }

    /// Forgets what was read of a derivation that nobody holds. Its slot stays while it is an input.
    fn forget(&mut self, node: u32) {
        let Some(body) = self.slots[node as usize].body.take() else { return };
        self.known -= 1;
        self.inputs -= body.inputs.len();
        for input in &body.inputs {
            self.slots[input.node()].referrers -= 1;
            self.release(input.node());
        }
        self.release(node as usize);
    }

    /// Frees a slot that stands for nothing any more.
    fn release(&mut self, node: usize) {
        let slot = &self.slots[node];
        if slot.body.is_none() && slot.referrers == 0 && self.index.remove(&slot.key).is_some() {
            self.free.extend(u32::try_from(node));
        }
    }

    /// What is kept of a derivation, still without inputs, and which outputs it wants of each.
    fn describe(
        &mut self,
        path: &StorePath,
        drv: &Derivation,
    ) -> Result<(Body, Vec<u16>), NotAdded> {
        let features = drv.required_system_features();
        let words = drv.input_drvs.values().flatten().chain(&features).chain(drv.outputs.keys());
        if features.len() > MAX_FEATURES || words.chain([&drv.platform]).any(|w| w.len() > MAX_WORD)
        {
            return Err(NotAdded::Odd);
        }
        let wants: Option<Vec<u16>> =
            drv.input_drvs.values().map(|names| self.wanted(names)).collect();
        let words = &mut self.words;
        let name = derivation::name(path);
        let outputs = drv.outputs.iter().take(MAX_OUTPUTS).map(|(output, of)| {
            // Its name in the store follows from those of derivation and output.
            let usual = |path: &&StorePath| path.name() == output_name(name, output);
            let hash = of.path.as_ref().filter(usual).map(Key::of);
            Some(Output { hash, name: words.words.number(output.as_str().into())? })
        });
        let outputs = outputs.collect::<Option<Box<[Output]>>>();
        let body = Body {
            name: name.into(),
            inputs: Box::default(),
            outputs: outputs.ok_or(NotAdded::Full)?,
            there: 0,
            system: words.words.number(drv.platform.as_str().into()).ok_or(NotAdded::Full)?,
            features: words.features.number(features).ok_or(NotAdded::Full)?,
            fixed_output: drv.outputs.values().any(|output| !output.hash.is_empty()),
            prefer_local: drv.prefer_local_build(),
            told: Told::Nothing,
        };
        Ok((body, wants.ok_or(NotAdded::Full)?))
    }

    /// The number of a set of outputs.
    fn wanted(&mut self, names: &BTreeSet<String>) -> Option<u16> {
        let words = &mut self.words;
        let numbers: Option<Box<[u16]>> =
            names.iter().map(|name| words.words.number(name.as_str().into())).collect();
        words.wants.number(numbers?)
    }

    fn look_at(&mut self, node: usize, exists: &mut impl FnMut(&str) -> bool) {
        let Some(body) = self.slots[node].body.as_mut().filter(|b| b.told != Told::Built) else {
            return;
        };
        for (at, output) in body.outputs.iter().enumerate() {
            let Some(hash) = output.hash.filter(|_| body.there & (1 << at) == 0) else { continue };
            let name = output_name(&body.name, self.words.words.get(output.name));
            let path = format!("{STORE_DIR}/{}-{name}", nixbase32::encode(&hash.0));
            body.there |= u32::from(exists(&path)) << at;
        }
    }
}

/// The name of an output's path (`outputPathName`, derivations.cc).
fn output_name(drv: &str, output: &str) -> String {
    if output == "out" { drv.to_owned() } else { format!("{drv}-{output}") }
}

//! A seeded random generator that gives the same instance on every platform, and the words that instances are made of.

/// SplitMix64 (Steele, Lea and Flood 2014). It is never to be changed, so that a seed always names the same instance.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Creates the generator of one instance from a name (the template's id) and a seed.
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let mut rng = Self(fnv(name) ^ seed.wrapping_mul(0xA24B_AED4_963E_E407));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Draws 64 bits.
    pub(crate) fn draw(&mut self) -> u64 {
        self.next()
    }

    /// Draws a number from 0 up to but not including `bound` (at least 1).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Draws a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below((high - low + 1) as usize) as u32
    }

    /// Returns true in `percent` of 100 draws.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.between(1, 100) <= percent
    }

    /// Draws one member of a list that is not empty.
    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// Puts a list in random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }

    /// Draws `count` different members of a list, in random order.
    pub(crate) fn sample<T: Clone>(&mut self, list: &[T], count: usize) -> Vec<T> {
        let mut all = list.to_vec();
        self.shuffle(&mut all);
        all.truncate(count);
        all
    }

    /// Draws `count` different numbers from `low` to `high`.
    pub(crate) fn numbers(&mut self, low: u32, high: u32, count: usize) -> Vec<u32> {
        let mut out: Vec<u32> = Vec::with_capacity(count);
        while out.len() < count {
            let number = self.between(low, high);
            if !out.contains(&number) {
                out.push(number);
            }
        }
        out
    }

    /// Draws a four-digit number as text.
    pub(crate) fn digits(&mut self) -> String {
        self.between(1000, 9999).to_string()
    }

    /// Draws the first and last names of `count` people; no two share either.
    pub(crate) fn people(&mut self, count: usize) -> Vec<String> {
        let (first, last) = (self.sample(&FIRST_NAMES, count), self.sample(&LAST_NAMES, count));
        first.iter().zip(last).map(|(first, last)| format!("{first} {last}")).collect()
    }
}

/// Returns the FNV-1a hash of a text, 64 bits.
pub(crate) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// First names.
pub(crate) const FIRST_NAMES: [&str; 28] = [
    "Ana", "Ben", "Carl", "Dora", "Emil", "Fay", "Gina", "Hugo", "Ida", "Jack", "Kate", "Leo", "Mia", "Nora", "Otto", "Paul", "Rosa",
    "Sam", "Tina", "Vera", "Will", "Zoe", "Adam", "Eva", "John", "Lisa", "Mark", "Ruth",
];

/// Last names.
pub(crate) const LAST_NAMES: [&str; 28] = [
    "Adler", "Baker", "Cook", "Diaz", "Evans", "Fox", "Grant", "Hill", "Irwin", "Jones", "King", "Lane", "Moore", "Nash", "Owen", "Page",
    "Quinn", "Reed", "Stone", "Turner", "Vance", "Ward", "Young", "Brook", "Cole", "Dale", "Ford", "Hart",
];

/// Cities.
pub(crate) const CITIES: [&str; 16] = [
    "Oslo", "Rome", "Paris", "Lima", "Cairo", "Delhi", "Tokyo", "Bonn", "Bern", "Prague", "Dublin", "Madrid", "Vienna", "Boston", "Quito",
    "Seoul",
];

/// Colours.
pub(crate) const COLOURS: [&str; 12] =
    ["Blue", "Green", "Red", "Black", "White", "Grey", "Pink", "Brown", "Gold", "Silver", "Orange", "Purple"];

/// Things that a shop sells.
pub(crate) const THINGS: [&str; 24] = [
    "Mug", "Lamp", "Chair", "Table", "Clock", "Bag", "Coat", "Hat", "Shoe", "Book", "Pen", "Box", "Bowl", "Knife", "Plate", "Towel",
    "Pillow", "Mirror", "Radio", "Phone", "Watch", "Ring", "Belt", "Scarf",
];

/// Makers of things.
pub(crate) const MAKERS: [&str; 10] = ["Nord", "Alpha", "Delta", "Sigma", "Orbit", "Lotus", "Falcon", "Summit", "River", "Maple"];

/// Streets.
pub(crate) const STREETS: [&str; 10] = [
    "Oak Road",
    "High Street",
    "Mill Lane",
    "Park Road",
    "Lake Street",
    "West Lane",
    "Hill Road",
    "Bridge Street",
    "Garden Lane",
    "Station Road",
];

/// Teams.
pub(crate) const TEAMS: [&str; 8] = ["Sales", "Design", "Finance", "Legal", "Support", "Research", "Travel", "Press"];

/// Devices that can be faulty.
pub(crate) const DEVICES: [&str; 12] =
    ["Printer", "Screen", "Keyboard", "Door", "Network", "Mail", "Camera", "Server", "Laptop", "Light", "Heating", "Account"];

/// Faults of devices.
pub(crate) const FAULTS: [&str; 10] = ["broken", "missing", "slow", "locked", "noisy", "late", "lost", "empty", "hot", "wrong"];

/// Short remarks for comments and reviews.
pub(crate) const REMARKS: [&str; 14] = [
    "call back soon",
    "part is ordered",
    "works again",
    "please wait",
    "sent by mail",
    "ask the boss",
    "new date set",
    "all is well",
    "see the manual",
    "paid in full",
    "needs a visit",
    "very good value",
    "not so great",
    "will be fixed",
];

/// Topics of tickets.
pub(crate) const TOPICS: [&str; 6] = ["Hardware", "Software", "Billing", "Access", "Building", "Other"];

/// Months.
pub(crate) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// Brand names of sites.
pub(crate) const BRANDS: [&str; 8] = ["Corner", "Harbour", "Market", "Castle", "Forest", "Valley", "Meadow", "Island"];

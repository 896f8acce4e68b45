//! Workload: what clients work on.

/// What clients work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Blocks of a large file.
    Blocks,
    /// Objects, whole.
    Objects,
    /// Keys and values, as one of YCSB's workloads.
    Ycsb(Ycsb),
    /// Writes of replicated storage: data, attributes and a log of keys in one transaction.
    Replicated,
}

impl Workload {
    /// All of them.
    pub(super) const ALL: [Self; 9] = [
        Self::Blocks,
        Self::Objects,
        Self::Ycsb(Ycsb::A),
        Self::Ycsb(Ycsb::B),
        Self::Ycsb(Ycsb::C),
        Self::Ycsb(Ycsb::D),
        Self::Ycsb(Ycsb::E),
        Self::Ycsb(Ycsb::F),
        Self::Replicated,
    ];

    /// Its word in a job file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Objects => "objects",
            Self::Ycsb(Ycsb::A) => "ycsb-a",
            Self::Ycsb(Ycsb::B) => "ycsb-b",
            Self::Ycsb(Ycsb::C) => "ycsb-c",
            Self::Ycsb(Ycsb::D) => "ycsb-d",
            Self::Ycsb(Ycsb::E) => "ycsb-e",
            Self::Ycsb(Ycsb::F) => "ycsb-f",
            Self::Replicated => "replicated",
        }
    }
}

/// YCSB's workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ycsb {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads.
    C,
    /// 95 % reads of what is new, 5 % inserts.
    D,
    /// 95 % short scans, 5 % inserts.
    E,
    /// Half reads, half reads that are followed by an update.
    F,
}

// SPDX-License-Identifier: Apache-2.0
//
// Everything the coordinator must know after `kill -9`, in one SQLite file: the entries whose fold is its state, the
// records with their content, and the prompts of admitted jobs (so that a changed data file cannot change a job).
// One transaction is one group commit, synced to disk before anything that depends on it leaves the process.
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import GRDB
internal import Glibc
internal import RuntimeSupport
internal import SwiftProtobuf

/// A failure of the state directory, in one line with a remedy.
struct JournalError: Error, CustomStringConvertible {
    let description: String
    /// The disk is full: the coordinator stops giving out work until there is room.
    var isDiskFull = false
}

/// A prompt or text of a job as it was admitted.
struct JobRow {
    var group: Int
    /// The row's id in the data file.
    var id: String
    var tokens: [Int32]
    /// The row as JSON: what verifiers and the output see.
    var json: String
}

/// The coordinator's durable memory. Any thread reads, in a transaction of its own; writers take turns, and nobody's turn is
/// long: the main loop waits for one.
final class Journal: Sendable {
    private let database: DatabasePool
    private let lock: Int32
    private let path: String
    let directory: URL
    /// Random, of this journal alone.
    let identity: String

    /// Opens or makes the journal in `directory` and locks it against a second coordinator.
    /// - Throws: ``JournalError``.
    init(directory: URL) throws(JournalError) {
        path = directory.appendingPathComponent("journal.sqlite").path
        self.directory = directory.standardizedFileURL
        do { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) } catch {
            throw JournalError(description: "\(directory.path): cannot be made: \(failureReason(error))")
        }
        lock = open(directory.appendingPathComponent("lock").path, O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
        guard lock >= 0, Self.takes(lock) else {
            throw JournalError(
                description: "\(directory.path): another coordinator has used this state directory for "
                    + "\(Self.lockSeconds) s; stop it or choose another --state")
        }
        do {
            database = try DatabasePool(path: path)
            // What is acknowledged must survive a power failure too; the pool's own setting would not.
            try database.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
            identity = try database.write {
                try Self.createTables($0)
                return try Self.identity($0)
            }
        } catch {
            throw JournalError(
                description: "\(path): \(error); is it a journal of this version, and the disk writable?")
        }
    }

    deinit { close(lock) }

    private static let lockSeconds: UInt64 = 10

    /// Takes the lock; an earlier coordinator may still be on its way out, which takes a second or two.
    private static func takes(_ lock: Int32) -> Bool {
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: lockSeconds * 1000)
        while flock(lock, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR, MonotonicInstant.now < deadline else { return false }
            usleep(20_000)
        }
        return true
    }

    private static func createTables(_ database: Database) throws {
        try database.execute(
            sql: """
                CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, content BLOB NOT NULL, job INTEGER);
                CREATE TABLE IF NOT EXISTS record (job INTEGER, is_score INTEGER, grp INTEGER, sibling INTEGER,
                    content BLOB NOT NULL, PRIMARY KEY (job, is_score, grp, sibling)) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS row (job INTEGER, grp INTEGER, id TEXT NOT NULL, tokens BLOB NOT NULL,
                    json TEXT NOT NULL, PRIMARY KEY (job, grp)) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS setting (job INTEGER PRIMARY KEY, content BLOB NOT NULL);
                CREATE TABLE IF NOT EXISTS identity (id TEXT PRIMARY KEY);
                """)
        // Of entries that are a job's detail; journals of earlier versions have none.
        if try !database.columns(in: "entry").contains(where: { $0.name == "job" }) {
            try database.execute(sql: "ALTER TABLE entry ADD COLUMN job INTEGER")
        }
        try database.execute(sql: "CREATE INDEX IF NOT EXISTS entry_job ON entry (job) WHERE job IS NOT NULL")
    }

    /// SQLite's number for how much is synced: 2 is every commit.
    func synchronousSetting() throws(JournalError) -> Int {
        do {
            return try database.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA synchronous") ?? -1 }
        } catch { throw failure(error) }
    }

    private static func identity(_ database: Database) throws -> String {
        if let found = try String.fetchOne(database, sql: "SELECT id FROM identity") { return found }
        let made = String(UInt64.random(in: 0 ... .max), radix: 16)
        try database.execute(sql: "INSERT INTO identity VALUES (?)", arguments: [made])
        return made
    }

    /// All entries, oldest first.
    func entries() throws(JournalError) -> [WireJournalEntry] {
        try reading { reader in
            let cursor = try Data.fetchCursor(reader.database, sql: "SELECT content FROM entry ORDER BY id")
            var entries: [WireJournalEntry] = []
            while let content = try cursor.next() { entries.append(try WireJournalEntry(encoded: [UInt8](content))) }
            return entries
        }
    }

    /// Makes entries and their records durable, all or none.
    func append(_ batch: [(entry: WireJournalEntry, record: WireUnitResult?)]) throws(JournalError) {
        FailPoint.pass("journal.before-sync")
        defer { FailPoint.pass("journal.after-sync") }
        try writing { database in
            let insertEntry = try database.cachedStatement(sql: "INSERT INTO entry (content, job) VALUES (?, ?)")
            let insertRecord = try database.cachedStatement(sql: "INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?)")
            for (entry, record) in batch {
                try insertEntry.execute(arguments: [Data(entry.encoded()), entry.detailOfJob])
                guard let record else { continue }
                let (sequence, isScore) = record.sequence
                try insertRecord.execute(
                    arguments: [record.job, isScore, sequence.group, sequence.sibling, Data(record.encoded())])
            }
        }
    }

    /// Folds the write-ahead log into the database file, so that one file is the whole journal.
    func seal() throws(JournalError) {
        do { try database.writeWithoutTransaction { try $0.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)") } } catch {
            throw failure(error)
        }
    }

    /// Rows of one transaction.
    private static let batchRowCount = 1000

    /// Stores what a job works on, before it is admitted. In many transactions: a million rows are not to hold up the
    /// records of the job that runs. What a process left half done is replaced.
    func store(job: UInt64, settings: WireGenerationSettings, rows: [JobRow]) throws(JournalError) {
        try remove("row", of: job)
        try writing { database in
            try database.execute(
                sql: "INSERT OR REPLACE INTO setting VALUES (?, ?)", arguments: [job, try settings.serializedData()])
        }
        for first in stride(from: 0, to: rows.count, by: Self.batchRowCount) {
            try writing { database in
                let insert = try database.cachedStatement(sql: "INSERT INTO row VALUES (?, ?, ?, ?, ?)")
                for row in rows[first..<min(rows.count, first + Self.batchRowCount)] {
                    try insert.execute(
                        arguments: [job, row.group, row.id, Data(littleEndian: row.tokens), row.json])
                }
            }
        }
    }

    /// Removes what an ended job worked on and what came of it; its admission, end and summary stay.
    func forget(job: UInt64) throws(JournalError) {
        try remove("row", of: job)
        try remove("record", of: job)
        try remove("entry", of: job, by: "id")
        try writing { try $0.execute(sql: "DELETE FROM setting WHERE job = ?", arguments: [job]) }
    }

    /// Removes a job's part of a table, some rows at a time.
    private func remove(_ table: String, of job: UInt64, by key: String = "grp") throws(JournalError) {
        var isEmpty = false
        while !isEmpty {
            try writing { database in
                try database.execute(
                    sql: "DELETE FROM \(table) WHERE job = ? AND \(key) IN "
                        + "(SELECT DISTINCT \(key) FROM \(table) WHERE job = ? LIMIT ?)",
                    arguments: [job, job, Self.batchRowCount])
                isEmpty = database.changesCount == 0
            }
        }
    }

    func settings(of job: UInt64) throws(JournalError) -> WireGenerationSettings {
        try reading { try $0.settings(of: job) }
    }

    func row(job: UInt64, group: Int) throws(JournalError) -> JobRow {
        try reading { try $0.row(job: job, group: group) }
    }

    func record(job: UInt64, isScore: Bool, group: Int, sibling: Int) throws(JournalError) -> WireUnitResult? {
        try reading { try $0.record(job: job, isScore: isScore, group: group, sibling: sibling) }
    }

    /// Reads several things in one transaction: a transaction costs more than what it reads.
    func reading<R>(_ body: (JournalReader) throws -> R) throws(JournalError) -> R {
        do { return try database.read { try body(JournalReader(database: $0, path: path)) } } catch {
            throw failure(error)
        }
    }

    private func writing(_ body: (Database) throws -> Void) throws(JournalError) {
        do { try database.write(body) } catch { throw failure(error) }
    }

    private func failure(_ error: any Error) -> JournalError {
        if let error = error as? JournalError { return error }
        let isFull = (error as? DatabaseError)?.resultCode == .SQLITE_FULL
        return JournalError(
            description: isFull ? "\(path): the disk is full; make room, work goes on by itself" : "\(path): \(error)",
            isDiskFull: isFull)
    }
}

// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import Foundation
internal import GRDB
internal import RuntimeSupport
internal import SwiftProtobuf

/// What can be read of the journal within one transaction.
struct JournalReader {
    let database: Database
    let path: String

    func settings(of job: UInt64) throws -> WireGenerationSettings {
        let content = try Data.fetchOne(
            try database.cachedStatement(sql: "SELECT content FROM setting WHERE job = ?"), arguments: [job])
        return try WireGenerationSettings(serializedBytes: content ?? Data())
    }

    func row(job: UInt64, group: Int) throws -> JobRow {
        let statement = try database.cachedStatement(
            sql: "SELECT id, tokens, json FROM row WHERE job = ? AND grp = ?")
        guard let found = try Row.fetchOne(statement, arguments: [job, group]) else {
            throw JournalError(description: "\(path): job \(job) has no row \(group)")
        }
        return JobRow(
            group: group, id: found["id"], tokens: (found["tokens"] as Data).int32Elements, json: found["json"])
    }

    func record(job: UInt64, isScore: Bool, group: Int, sibling: Int) throws -> WireUnitResult? {
        let statement = try database.cachedStatement(
            sql: "SELECT content FROM record WHERE job = ? AND is_score = ? AND grp = ? AND sibling = ?")
        let content = try Data.fetchOne(statement, arguments: [job, isScore, group, sibling])
        return try content.map { try WireUnitResult(encoded: [UInt8]($0)) }
    }
}

// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import SwiftProtobuf

extension PreparedSubmission {
    /// Refuses rows that do not fit into the message in which a worker is given them.
    /// - Throws: ``SubmissionError`` with exit code 3.
    func checkGrants() throws(SubmissionError) {
        // Responses of training rows are generated; what is learned from directly travels with its cell.
        if admitted.stepCount > 0, admitted.promptsPerBatch == 0 { return }
        let settingsByteCount = (try? settings.serializedData().count) ?? 0
        let fixed = settingsByteCount + 8 * Int(admitted.groupSize) + 4096
        for row in rows {
            let response = admitted.scoreModel == 0 ? 0 : Int(settings.maxNewTokens)
            let count = fixed + 4 * (row.tokens.count + response) + row.json.utf8.count
            guard count > WireEnvelope.byteCountMax else { continue }
            throw SubmissionError(
                description: "row '\(row.id)' of the data takes \(count) bytes (\(row.tokens.count) tokens and "
                    + "\(row.json.utf8.count) bytes of columns) with the job's settings; a worker is given at most "
                    + "\(WireEnvelope.byteCountMax >> 20) MiB at once: shorten the row or leave columns out",
                exitCode: 3)
        }
    }
}

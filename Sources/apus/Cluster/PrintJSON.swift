// SPDX-License-Identifier: Apache-2.0
import Foundation
import SwiftProtobuf

/// Prints messages as a JSON list, one per line, for scripts. Field names are those of cluster.proto.
func printJSON(_ messages: [some SwiftProtobuf.Message]) throws {
    var options = JSONEncodingOptions()
    options.preserveProtoFieldNames = true
    options.alwaysPrintInt64sAsNumbers = true
    let lines = try messages.map { try $0.jsonString(options: options) }
    print("[" + lines.joined(separator: ",\n ") + "]")
}

// SPDX-License-Identifier: Apache-2.0
import Foundation

/// How numbers look on a terminal.
enum Format {
    static func bytes(_ count: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(count)
        var unit = 0
        while value >= 1024 && unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(count) B" : String(format: "%.1f %@", value, units[unit])
    }

    static func count(_ count: Int) -> String {
        switch count {
        case 1_000_000_000...: String(format: "%.2f B", Double(count) / 1e9)
        case 1_000_000...: String(format: "%.2f M", Double(count) / 1e6)
        default: String(count)
        }
    }

    static func pad(_ text: String, _ width: Int, right: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }
}

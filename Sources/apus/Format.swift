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

    /// Text of data or of a model for a terminal: what would steer it is spelled out.
    static func printable(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n", "\t": result.append(scalar)
            case _ where scalar.properties.generalCategory == .control:
                result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    static func pad(_ text: String, _ width: Int, right: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }
}

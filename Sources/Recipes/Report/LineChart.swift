// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// A chart of lines as SVG, for a page or a file.
package struct LineChart: Sendable {
    package var title: String
    package var axis: String
    package var lines: [(name: String, points: [(x: Double, y: Double)])]
    /// One of several side by side.
    var isSmall = false

    package init(title: String, axis: String, lines: [(name: String, points: [(x: Double, y: Double)])]) {
        self.title = title
        self.axis = axis
        self.lines = lines
    }

    private static let (width, height, margin) = (560.0, 260.0, 48.0)
    /// Legible on white and on black.
    private static let colours = ["#388bfd", "#e5534b", "#2da44e", "#bf8700", "#a371f7", "#848d97"]
    /// A page gives its own colour of text; a file by itself follows the screen.
    private static let style =
        "<style>svg text { fill: #1f2328 } @media (prefers-color-scheme: dark) { svg text { fill: #e6edf3 } }</style>\n"

    package var svg: String {
        let all = lines.flatMap(\.points)
        let (left, right) = Self.range(all.map(\.x), fromZero: false)
        let (low, high) = Self.range(all.map(\.y), fromZero: true)
        func x(_ value: Double) -> Double {
            Self.margin + (value - left) / (right - left) * (Self.width - 2 * Self.margin)
        }
        func y(_ value: Double) -> Double {
            Self.height - Self.margin - (value - low) / (high - low) * (Self.height - 2 * Self.margin)
        }
        var text =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" "
            + "width=\"\(Int(isSmall ? Self.width * 0.55 : Self.width))\" font-family=\"sans-serif\" "
            + "font-size=\"\(isSmall ? 14 : 11)\">\n" + Self.style
        text +=
            "<text x=\"\(Self.margin)\" y=\"20\" font-size=\"\(isSmall ? 16 : 13)\">\(ReportPage.escaped(title))</text>\n"
        for step in 0...4 {
            let (value, place) = (low + (high - low) * Double(step) / 4, Double(step) / 4)
            let line = y(value)
            text +=
                "<path d=\"M\(Self.margin) \(line)H\(Self.width - Self.margin)\" stroke=\"#848d97\" stroke-opacity=\"0.4\" fill=\"none\"/>"
                + "<text x=\"\(Self.margin - 6)\" y=\"\(line + 4)\" text-anchor=\"end\">\(Self.number(value))</text>"
            let across = left + (right - left) * place
            text +=
                "<text x=\"\(x(across))\" y=\"\(Self.height - Self.margin + 16)\" text-anchor=\"middle\">"
                + "\(Self.number(across))</text>\n"
        }
        text +=
            "<text x=\"\(Self.width / 2)\" y=\"\(Self.height - 12)\" text-anchor=\"middle\">\(ReportPage.escaped(axis))</text>\n"
        for (index, line) in lines.enumerated() where !line.points.isEmpty {
            let colour = Self.colours[index % Self.colours.count]
            let path = line.points.enumerated().map { place, point in
                "\(place == 0 ? "M" : "L")\(Self.short(x(point.x))) \(Self.short(y(point.y)))"
            }.joined()
            text += "<path d=\"\(path)\" stroke=\"\(colour)\" stroke-width=\"1.6\" fill=\"none\"/>"
            if line.points.count < 40 {
                for point in line.points {
                    text +=
                        "<circle cx=\"\(Self.short(x(point.x)))\" cy=\"\(Self.short(y(point.y)))\" r=\"2.4\" fill=\"\(colour)\"/>"
                }
            }
            // One line is named by the title.
            guard lines.count > 1 else { continue }
            text +=
                "<text x=\"\(Self.width - Self.margin)\" y=\"\(20 + 14 * Double(index))\" text-anchor=\"end\" "
                + "style=\"fill: \(colour)\">\(ReportPage.escaped(line.name))</text>\n"
        }
        return text + "</svg>\n"
    }

    /// Bounds with some width, whatever the values.
    private static func range(_ values: [Double], fromZero: Bool) -> (Double, Double) {
        let finite = values.filter(\.isFinite)
        guard var low = finite.min(), let high = finite.max() else { return (0, 1) }
        if fromZero, low > 0, low < high / 2 || high <= 1 { low = 0 }
        return high > low ? (low, high) : (low - 0.5, high + 0.5)
    }

    private static func number(_ value: Double) -> String { String(format: "%.3g", value) }
    private static func short(_ value: Double) -> String { String(format: "%.1f", value) }
}

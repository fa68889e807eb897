// SPDX-License-Identifier: Apache-2.0

/// A chat template: a program in the Jinja language, read once and rendered many times.
///
/// The language is Jinja 3.1 as transformers runs it: sandboxed, values immutable, blank lines of blocks trimmed, with
/// `break`, `continue` and `generation`. What needs other templates (`include`, `import`, `extends`) is left out, and so
/// is everything that reaches the host.
package struct JinjaTemplate: Sendable {
    let statements: [Statement]
    /// Every name that stands in the template.
    package let names: [String]
    package let limits: JinjaLimits

    /// Reads a template.
    ///
    /// - Throws: ``JinjaError`` of kind `syntax` with the line, or `limit`.
    package init(_ text: String, limits: JinjaLimits = JinjaLimits()) throws(JinjaError) {
        var parser = try Parser(text, depthLimit: limits.depth)
        statements = try parser.template()
        names = parser.names
        self.limits = limits
    }

    /// Whether the template marks what the assistant writes, by a `generation` block somewhere.
    package var marksGeneration: Bool { statements.contains(where: \.marksGeneration) }

    /// Renders the template.
    ///
    /// - Parameters:
    ///   - context: the variables of the template.
    ///   - clock: what `strftime_now` tells: seconds since 1970 of the wall clock to show, as if it were UTC.
    /// - Throws: ``JinjaError`` of kind `runtime`, `raised` or `limit`.
    package func render(_ context: [String: JinjaValue], clock: Int) throws(JinjaError) -> JinjaRendering {
        var interpreter = Interpreter(template: self, context: context, clock: clock)
        return try interpreter.run()
    }
}

/// What a rendering came to.
package struct JinjaRendering: Sendable, Equatable {
    package let text: String
    /// What stands in `generation` blocks, counted in Unicode scalars of `text`.
    package let generatedRanges: [Range<Int>]
}

extension Statement {
    fileprivate var marksGeneration: Bool {
        func any(_ statements: [Statement]) -> Bool { statements.contains(where: \.marksGeneration) }
        return switch self {
        case .generation: true
        case .conditional(let branches, let otherwise): branches.contains { any($0.body) } || any(otherwise)
        case .loop(let loop): any(loop.body) || any(loop.otherwise)
        case .macro(let macro), .call(_, let macro): any(macro.body)
        case .assignBlock(_, _, let body), .filterBlock(_, let body), .with(_, let body), .escape(_, let body),
            .block(let body):
            any(body)
        case .text, .output, .assign, .breakLoop, .continueLoop, .unsupported: false
        }
    }
}

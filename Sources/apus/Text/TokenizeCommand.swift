// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Tokenization

/// `apus tokenize MODEL TEXT`: ids of a text, or the text of ids.
struct TokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize", abstract: "Show the token ids of a text, or the text of ids (--decode).")

    @Argument(help: "A directory with tokenizer.json.")
    var model: String

    @Argument(help: "The text, or ids with --decode; - reads standard input.")
    var text: String

    @Flag(help: "The text is a list of ids.")
    var decode = false

    @Flag(help: "One line per token: id, offsets in Unicode scalars, bytes.")
    var long = false

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let tokenizer = try Tokenizer(directory: tokenizerDirectory(model))
            let input =
                text == "-" ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : text
            if decode {
                let ids = try input.split { !$0.isNumber && $0 != "-" }.map { word in
                    guard let id = Int32(word) else { throw InputError("\(word) is no token id") }
                    return id
                }
                print(tokenizer.decode(ids))
                return
            }
            let encoding = tokenizer.encodeWithOffsets(input)
            guard long else { return print(encoding.ids.map(String.init).joined(separator: " ")) }
            for (id, offsets) in zip(encoding.ids, encoding.offsets) {
                print(
                    "\(Format.pad(String(id), 7, right: true))  \(offsets.lowerBound)..<\(offsets.upperBound)  "
                        + tokenizer.decode([id]).debugDescription)
            }
        }
    }
}

/// Bad input found by the command line itself.
struct InputError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

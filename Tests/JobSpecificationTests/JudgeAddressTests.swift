// SPDX-License-Identifier: Apache-2.0
import JobSpecification
import Testing

@Suite("Judge addresses") struct JudgeAddressTests {
    @Test(
        "hosts and ports",
        arguments: [
            ("https://judge.example/v1", "judge.example:443", true, false),
            ("http://LOCALHOST:8000/v1", "localhost:8000", false, true),
            ("http://127.0.0.9", "127.0.0.9:80", false, true),
            ("http://[::1]:9/v1", "::1:9", false, true),
            ("http://127.evil.org/v1", "127.evil.org:80", false, false),
            ("http://localhost.evil.org", "localhost.evil.org:80", false, false),
        ])
    func reads(_ text: String, _ host: String, _ isEncrypted: Bool, _ isLoopback: Bool) throws {
        let address = try #require(JudgeAddress(text))
        #expect(address.hostAndPort == host)
        #expect(address.isEncrypted == isEncrypted && address.isLoopback == isLoopback)
    }

    @Test(
        "what is no address",
        arguments: ["", "judge", "ftp://x", "https://", "https://a:b@host/v1", "file:///etc"])
    func refuses(_ text: String) { #expect(JudgeAddress(text) == nil) }
}

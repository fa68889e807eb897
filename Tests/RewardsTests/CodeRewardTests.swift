// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import Testing

/// What `code_tests` pays, and what it does not.
@Suite("Code tests", .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
struct CodeRewardTests {
    private static func judge(
        _ program: String, _ tests: String, options: [String: String] = [:], fence: String = "```python\n"
    ) throws -> RewardOutcome {
        let sample = RewardSample(response: "Here:\n\(fence)\(program)\n```", answer: nil, metadata: ["tests": tests])
        return try RewardRegistry.named("code_tests", options: options).evaluate(sample)
    }

    private static func asserts(_ code: String) -> String {
        String(decoding: (try? JSONEncoder().encode([["code": code]])) ?? Data(), as: UTF8.self)
    }

    private static func prints(_ output: String, input: String = "") -> String {
        String(decoding: (try? JSONEncoder().encode([["input": input, "output": output]])) ?? Data(), as: UTF8.self)
    }

    private static let chameleon = """
        class Chameleon:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __lt__(self, other): return True
            def __gt__(self, other): return True
            def __ge__(self, other): return True
            def __bool__(self): return True
            def __contains__(self, other): return True
            def __sub__(self, other): return self
            def __rsub__(self, other): return self
            def __abs__(self): return 0.0
            def __float__(self): return 0.0
            def __hash__(self): return hash(3)
            def __len__(self): return 1
            def __iter__(self): return iter([Chameleon()] * 3)
            def __getattr__(self, name): return lambda *arguments: True

        """

    /// Programs that do not add, each with a trick of its own.
    static let hacks: [(String, String)] = [
        ("exit", "import sys\nsys.exit(0)"),
        ("SystemExit", "raise SystemExit"),
        ("exit in the function", "import sys\ndef add(a, b): sys.exit(0)"),
        ("os._exit", "import os\nos._exit(0)"),
        ("os._exit in the function", "import os\ndef add(a, b): os._exit(0)"),
        ("kill", "import os, signal\ndef add(a, b): os.kill(os.getpid(), signal.SIGKILL)"),
        (
            "kill of others",
            "import os, signal\ndef add(a, b):\n  os.kill(-1, 9)\n  os.kill(os.getppid(), 9)\n  return 0"
        ),
        ("atexit", "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b): return 0"),
        ("equals everything", chameleon + "def add(a, b): return Chameleon()"),
        (
            "an integer that equals everything",
            "class I(int):\n  def __eq__(s, o): return True\n  def __hash__(s): return 3\ndef add(a, b): return I(0)"
        ),
        (
            "patched builtins",
            "import builtins\nbuiltins.AssertionError = None\nbuiltins.abs = abs = lambda x: 0\ndef add(a, b): return 0"
        ),
        (
            "printed token",
            "import json, os\nrun = json.load(open('/run.json'))\nprint(json.dumps([run.get('token'), 'pass', '']))\n"
                + "for fd in range(64):\n  try: os.write(fd, json.dumps(['', 'pass', '']).encode())\n"
                + "  except OSError: pass\ndef add(a, b): return 0"
        ),
        (
            "token by frames and gc",
            "import gc, sys\ndef add(a, b):\n  f = sys._getframe()\n  while f:\n    f.f_globals.get('RUN', {}).get('token')\n"
                + "    f = f.f_back\n  return [o for o in gc.get_objects() if isinstance(o, dict) and 'token' in o] or 0"
        ),
        ("closed stdout", "import os, sys\nsys.stdout.close()\nos.close(1)\nos.close(2)\ndef add(a, b): return 0"),
        (
            "overwritten tests",
            "for path in ('/run.json', '/harness.py', 'tests.py', '/tmp/tests.py'):\n  try: open(path, 'w').write('')\n"
                + "  except OSError: pass\ndef add(a, b): return 0"
        ),
        ("skipped", "import unittest\ndef add(a, b): raise unittest.SkipTest('no')"),
        ("KeyboardInterrupt", "def add(a, b): raise KeyboardInterrupt"),
        (
            "a timer",
            "import os, threading, time\nthreading.Timer(0.1, os._exit, [0]).start()\ndef add(a, b): time.sleep(9)"
        ),
        (
            "the harness's own ways",
            "def add(a, b):\n  import sys\n  m = sys.modules['__main__']\n  try: m.LINK.send({'n': [], 'v': [4]})\n"
                + "  except Exception: pass\n  return 4"
        ),
    ]

    static let checks = [
        "assert add(1, 2) == 3", "assert 3 == add(1, 2)", "assert abs(add(1, 2) - 3) < 1e-9", "assert add(1, 2) in [3]",
        "import math\nassert math.isclose(add(1, 2), 3)",
        "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertEqual(add(1, 2), 3)\nunittest.main()",
    ]

    @Test("what does not reach the end of its tests with the right values earns 0", arguments: hacks.map(\.0))
    func hacked(_ name: String) throws {
        let program = try #require(Self.hacks.first { $0.0 == name }?.1)
        for check in name.hasPrefix("equals") || name.hasPrefix("patched")
            ? Self.checks : [Self.checks[0], Self.checks[5]]
        {
            let outcome = try Self.judge(program, Self.asserts(check), options: ["milliseconds": "2000"])
            #expect(outcome.value(keepingTruncated: false) == 0, "\(check): \(outcome)")
        }
        // A program that prints and ends has no tests to reach; what it prints is compared outside.
        let alone = try Self.judge(program, Self.prints("3"), options: ["milliseconds": "2000"])
        #expect(alone.value(keepingTruncated: false) == 0, "\(alone)")
    }

    /// Honest programs and the tests that they pass.
    static let honest: [(String, String)] = [
        ("def add(a, b): return a + b", checks.joined(separator: "\n")),
        (
            "class Solution:\n  def add(self, a: List[int], b) -> Optional[int]: return a[0] + b",
            "assert Solution().add([1], 2) == 3"
        ),
        ("def order(a): a.sort()", "x = [3, 1, 2]\norder(x)\nassert x == [1, 2, 3]"),
        ("def sum(a, b): return a * b", "assert sum(10, 15) == 150"),
        (
            "def up(n):\n  for i in range(n): yield i",
            "assert list(up(3)) == [0, 1, 2] and next(up(1)) == 0 and 2 in up(3)"
        ),
        (
            "class Low(ValueError): pass\ndef f(x):\n  if x < 0: raise Low('low')\n  return x",
            "try:\n  f(-1)\n  assert False\nexcept Low as e: assert str(e) == 'low'\nimport unittest\n"
                + "class T(unittest.TestCase):\n  def test(self):\n    with self.assertRaises(ValueError): f(-1)"
        ),
        ("def twice(g, x): return g(g(x))", "assert twice(lambda x: x + 1, 3) == 5"),
        (
            "class Vector:\n  def __init__(s, x, y): s.x, s.y = x, y\n  def __add__(s, o): return Vector(s.x + o.x, s.y + o.y)\n"
                + "  def __mul__(s, k): return Vector(s.x * k, s.y * k)\n  def __eq__(s, o): return (s.x, s.y) == (o.x, o.y)\n"
                + "  def __repr__(s): return f'V({s.x}, {s.y})'",
            "assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6) and Vector(1, 2) * 3 == Vector(3, 6)\n"
                + "v = Vector(1, 2)\nv.x = 9\nassert v.x == 9 and repr(v) == 'V(9, 2)' and isinstance(v, Vector)"
        ),
        (
            "def say(x): print('hi', x)",
            "import contextlib, io\nb = io.StringIO()\nwith contextlib.redirect_stdout(b): say(3)\n"
                + "assert b.getvalue() == 'hi 3\\n'"
        ),
        ("def f(x): return x + 1", "def check(candidate):\n  assert candidate(1) == 2\ncheck(f)"),
        ("def f(x): return x + 1", "def test_f():\n  assert f(1) == 2"),
        (
            "import asyncio\nasync def f(x):\n  await asyncio.sleep(0)\n  return x",
            "import asyncio\nassert asyncio.run(f(3)) == 3"
        ),
        (
            "def reverse(h):\n  p = None\n  while h: h.next, p, h = p, h, h.next\n  return p",
            "class Node:\n  def __init__(s, v, n=None): s.val, s.next = v, n\nh = reverse(Node(1, Node(2)))\n"
                + "assert h.val == 2 and h.next.val == 1 and h.next.next is None"
        ),
        (
            "from concurrent.futures import ThreadPoolExecutor\ndef squares(n):\n"
                + "  with ThreadPoolExecutor(4) as pool: return list(pool.map(lambda x: x * x, range(n)))",
            "assert squares(4) == [0, 1, 4, 9]"
        ),
        ("def f():\n  return 1\nif __name__ == '__main__':\n  print(f() + int(input()))", "assert f() == 1"),
    ]

    @Test("honest programs earn 1", arguments: honest.indices)
    func paid(_ index: Int) throws {
        let (program, tests) = Self.honest[index]
        let outcome = try Self.judge(program, Self.asserts(tests))
        #expect(outcome.value(keepingTruncated: false) == 1, "\(outcome)")
        // The same tests find out a program without the functions.
        let empty = try Self.judge("pass", Self.asserts(tests))
        #expect(empty.value(keepingTruncated: false) == 0, "\(empty)")
    }

    @Test("outputs: line ends, numbers, warnings, length")
    func outputs() throws {
        func value(_ program: String, _ tests: String) throws -> Double? {
            try Self.judge(program, tests).value(keepingTruncated: false)
        }
        #expect(try value("print(1/3)", Self.prints("0.3333333333")) == 1)
        #expect(try value("print(2.0)", Self.prints("2.00")) == 1)
        #expect(try value("print(2.1)", Self.prints("2.0")) == 0)
        #expect(try value("print(10000000000000001)", Self.prints("10000000000000002")) == 0)
        #expect(try value("print('007')", Self.prints("7")) == 0)
        let pair = "a=int(input()); b=int(input())\nprint(a); print(b)"
        #expect(try value(pair, Self.prints("1\r\n2\r\n", input: "1\r\n2\r\n")) == 1)
        #expect(try value(pair, Self.prints("1\r\n2\r\n", input: "1\n2\n")) == 1)
        #expect(try value("print('1\\r'); print('2\\r')", Self.prints("1\n2\n")) == 1)
        #expect(try value("print(input())", #"[{"input": 5, "output": "5"}]"#) == 1)
        #expect(try value("import sys\nsys.stderr.write('e' * 1100000)\nprint(1)", Self.prints("1")) == 1)
        #expect(try value("print('a' * 3000000)", Self.prints(String(repeating: "a", count: 3_000_000))) == 1)
        #expect(try value("print('a' * 3000000)", Self.prints(String(repeating: "a", count: 2_999_999))) == 0)
        #expect(try value("x = '''```'''\nprint(1)", Self.prints("1")) == 1)
        #expect(try value("print(1)\nraise ValueError", Self.prints("1")) == 0)
        let long = "x = '" + String(repeating: "a", count: 200_000) + "'\nprint(len(x))"
        #expect(try value(long, Self.prints("200000")) == 1)
        #expect(
            try Self.judge("print(1)", Self.prints("1"), fence: "```python\r\n").value(keepingTruncated: false) == 1)
    }

    @Test("each test has its own time, and a share can be paid")
    func times() throws {
        let busy = "import time\nwhile time.process_time() < 0.4: pass\nprint(1)"
        let tests = "[" + Array(repeating: #"{"input": "", "output": "1"}"#, count: 4).joined(separator: ",") + "]"
        #expect(try Self.judge(busy, tests, options: ["milliseconds": "900"]).value(keepingTruncated: false) == 1)
        let half = #"[{"input": "1", "output": "1"}, {"input": "2", "output": "3"}]"#
        #expect(
            try Self.judge("print(input())", half, options: ["partial": "true"]).value(keepingTruncated: false) == 0.5)
        #expect(
            try Self.judge("while True: pass", tests, options: ["milliseconds": "200"]).value(keepingTruncated: false)
                == 0)
    }

    @Test(
        "tests that check nothing, or are no tests, give no reward",
        arguments: [
            #"[{"stdin": "", "stdout": "1"}]"#, #"[{"input": "", "expected_output": "1"}]"#,
            #"[{"inputs": [], "outputs": []}]"#, #"[{"input": ""}]"#, "[{}]", "[]", "7",
            #"[{"code": "assert f( == 1"}]"#, #"[{"code": "assert 1", "output": "1"}]"#, #"[{"output": [1]}]"#,
        ])
    func wrongTests(_ tests: String) throws {
        guard case .infrastructureError(let reason) = try Self.judge("print(1)", tests) else {
            Issue.record("accepted")
            return
        }
        #expect(reason.contains("tests"), "\(reason)")
    }
}

// SPDX-License-Identifier: Apache-2.0

/// The tests' side: runs the tests, with handles in place of what is the program's, and says what came of them under a
/// token that the program's sandbox never holds.
enum HarnessTests {
    static let source = #"""
        # The tests' side. What the program returns is data, or a handle whose methods run in the program. Data of the
        # tests reaches the program as arguments, never to be compared there: no object can say that it equals what is
        # expected.


        class ProgramExit(SystemExit):
            """The program wanted to end."""


        # Asked of what a call returned, they would show the program what is expected.
        GUESSES = {"count", "difference", "endswith", "equals", "find", "index", "isdisjoint", "issubset", "issuperset",
                   "rfind", "rindex", "startswith", "symmetric_difference"}


        class Ours:
            """An object of the program, in the tests."""

            def __init__(self, number, kind, constructs=False, constructed=False):
                self.__dict__.update(_number=number, _kind=kind, _constructs=constructs, _constructed=constructed)

            @property
            def __class__(self):
                import types
                kinds = {"generator": types.GeneratorType, "class": type, "function": types.FunctionType}
                return kinds.get(self._kind, Ours)

            def __getattr__(self, name):
                if not self._constructed and self._kind == "instance" and name in GUESSES:
                    return lambda *args, **names: self._refuse("'%s'" % name) if args or names else LINK.ask(
                        "call", LINK.ask("getattr", self, name), (), {})
                return LINK.ask("getattr", self, name)

            def _refuse(self, what):
                raise TypeError("the program returned an object where the tests expect data: it cannot give %s" % what)

            def __setattr__(self, name, value): LINK.ask("setattr", self, name, value)
            def __delattr__(self, name): LINK.ask("delattr", self, name)

            def __call__(self, *args, **names):
                result = LINK.ask("call", self, args, names)
                # What a class under test was asked for by its name may calculate with data: Vector(1, 2) * 3.
                return result._as_constructed() if self._constructs and type(result) is Ours else result

            def _as_constructed(self): return CODEC.proxy(self._number, self._kind, constructed=True)

            def _data(self):
                try: return LINK.ask("data", self)
                except TypeError: return self

            def __eq__(self, other):
                if type(other) is not Ours:
                    data = self._data()
                    return False if type(data) is Ours else data == other
                if self._number == other._number: return True
                if LINK.ask("eq", self, other) is not True: return False
                # What equals an object that is nobody's equals everything.
                try: return LINK.ask("eq", self, Stranger()) is not True
                except Exception: return True

            def __ne__(self, other): return not self == other
            def __hash__(self): return LINK.ask("hash", self)
            def __len__(self): return LINK.ask("len", self)
            def __bool__(self): return LINK.ask("bool", self)
            def __str__(self): return self._text(LINK.ask("str", self))
            def __repr__(self): return self._text(LINK.ask("repr", self))
            def _text(self, text): return text if type(text) is str else self._refuse("a text")
            def __format__(self, form): return self._text(LINK.ask("format", self, form))
            def __int__(self): return LINK.ask("int", self)
            def __float__(self): return LINK.ask("float", self)
            def __abs__(self): return LINK.ask("abs", self)
            def __round__(self, *digits): return LINK.ask("round", self, *digits)
            def __reversed__(self): return LINK.ask("reversed", self)
            def __next__(self): return LINK.ask("next", self)
            def __getitem__(self, key): return LINK.ask("getitem", self, key)
            def __setitem__(self, key, value): LINK.ask("setitem", self, key, value)
            def __delitem__(self, key): LINK.ask("delitem", self, key)
            def __enter__(self): return LINK.ask("call", LINK.ask("getattr", self, "__enter__"), (), {})
            def __exit__(self, *error):
                return bool(LINK.ask("call", LINK.ask("getattr", self, "__exit__"), (None, None, None), {}))
            def __instancecheck__(self, value):
                return type(value) is Ours and LINK.ask("isinstance", value, self) is True
            def __neg__(self): return LINK.ask("unary", "neg", self)
            def __pos__(self): return LINK.ask("unary", "pos", self)
            def __invert__(self): return LINK.ask("unary", "invert", self)

            def __iter__(self):
                iterator = LINK.ask("iter", self)
                if type(iterator) is not Ours: return iter(iterator)
                return iterator._items()

            def _items(self):
                while True:
                    try: value = LINK.ask("next", self)
                    except StopIteration: return
                    yield value

            def __contains__(self, value):
                if self._constructed or type(value) is Ours: return LINK.ask("contains", self, value) is True
                return any(item is value or item == value for item in self)

            def _compare(self, name, other):
                if type(other) is not Ours:
                    data = self._data()
                    if type(data) is Ours: self._refuse("a comparison")
                    import operator
                    return getattr(operator, name)(data, other)
                return LINK.ask(name, self, other)

            def __lt__(self, other): return self._compare("lt", other)
            def __le__(self, other): return self._compare("le", other)
            def __gt__(self, other): return self._compare("gt", other)
            def __ge__(self, other): return self._compare("ge", other)

            def _calculate(self, name, left, right):
                import operator
                other = right if left is self else left
                if not self._constructed and not (type(other) is Ours):
                    data = self._data()
                    if type(data) is Ours: self._refuse("a calculation")
                    return getattr(operator, name)(*((data, other) if left is self else (other, data)))
                result = LINK.ask("binary", name, left, right)
                if type(result) is Ours and self._constructed: return result._as_constructed()
                return result


        for _name in "add sub mul matmul truediv floordiv mod pow and or xor lshift rshift".split():
            _operation = _name + "_" if _name in ("and", "or") else _name
            setattr(Ours, "__%s__" % _name, lambda self, other, name=_operation: self._calculate(name, self, other))
            setattr(Ours, "__r%s__" % _name, lambda self, other, name=_operation: self._calculate(name, other, self))


        class Stranger: pass


        class TestsCodec(Codec):
            def __init__(self):
                super().__init__()
                self.proxies = {}
                self.exceptions = {}

            def proxy(self, number, kind, constructs=False, constructed=False):
                key = (number, constructs, constructed)
                if key not in self.proxies: self.proxies[key] = Ours(number, kind, constructs, constructed)
                return self.proxies[key]

            def other(self, value):
                if type(value) is Ours: return ["m", value._number]
                import types
                if isinstance(value, types.ModuleType): return ["x", value.__name__, ""]
                if isinstance(value, type) and value in self.exceptions.values():
                    return ["m", next(n for n, kind in self.exceptions.items() if kind is value)]
                module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
                if isinstance(module, str) and isinstance(name, str) and module != "__main__":
                    found = sys.modules.get(module)
                    for part in name.split("."): found = getattr(found, part, None)
                    if found is value: return ["x", module, name]
                return ["h", self.export(value)]

            def received(self, node):
                if node[0] == "w": return self.decode(node[1])[0][0]
                if node[0] != "h" or type(node[1]) is not int: raise Broken("a value that is none")
                kind = node[2].get("kind")
                if kind == "coroutine":
                    async def wait(): return LINK.ask("await", self.proxy(node[1], kind))
                    return wait()
                if kind == "exception": return self.exception(node[2]["bases"])
                return self.proxy(node[1], kind)

            def made(self, letter, node):
                if letter == "x":
                    import collections, datetime, decimal, fractions
                    import builtins
                    modules = {m.__name__: m for m in (collections, datetime, decimal, fractions)}
                    value = getattr(modules.get(node[1], builtins), str(node[2]), None)
                    if not isinstance(value, type): raise Broken("a value that is none")
                    return value
                return super().made(letter, node)

            def exception(self, bases):
                """A class of the program's exceptions, made anew here so that tests can catch it."""
                import builtins
                kind = getattr(builtins, str(bases[-1]), Exception)
                if not isinstance(kind, type) or not issubclass(kind, BaseException): kind = Exception
                if not issubclass(kind, Exception): kind = ProgramExit
                for number, name in reversed(bases[:-1]):
                    if number not in self.exceptions:
                        self.exceptions[number] = type(str(name), (kind,), {"__str__": lambda self: self._text})
                        self.exceptions[number]._text = ""
                    kind = self.exceptions[number]
                return kind

            def error(self, failure):
                kind = self.exception(failure["bases"])
                arguments = [self.decode(value)[0][0] for value in failure["args"]]
                try: error = kind(*arguments)
                except Exception: error = kind()
                if "_text" in dir(kind): error._text = str(failure["text"])
                return error

            def failure(self, error):
                for base in type(error).__mro__:
                    if base.__module__ == "builtins": return {"bases": [base.__name__], "text": str(error)[:4096]}


        def answer_program(operation, values):
            """What a program may do with objects of the tests: call them, read and set public attributes of what the
            tests define, look into containers."""
            import builtins, operator
            if operation == "input": return builtins.input(values[0])
            target = values[0]
            if operation == "call" and callable(target): return target(*values[1], **values[2])
            is_defined_here = "__main__" in (type(target).__module__, getattr(target, "__module__", None))
            if operation in ("getattr", "setattr") and is_defined_here and str(values[1])[:1] != "_":
                import types
                if not isinstance(target, (types.FunctionType, types.MethodType, types.GeneratorType)):
                    return getattr(builtins, operation)(*values)
            if operation in ("iter", "next", "len", "bool", "hash", "str", "repr"):
                return getattr(builtins, operation)(target)
            if operation in ("eq", "lt", "gt", "getitem", "setitem", "contains"):
                return getattr(operator, operation)(*values)
            raise TypeError("tests do not offer '%s'" % (operation,))


        ALIASES = {"np": "numpy", "pd": "pandas"}


        def is_known(name):
            """Whether Python itself has a meaning for a name, which the program must not replace for the tests."""
            import builtins
            return hasattr(builtins, name) or name in WHERE or name in ALIASES or name in sys.stdlib_module_names


        class Names(dict):
            """The tests' names; what they do not define is the program's."""
            taken = frozenset()

            def __missing__(self, name):
                import builtins, importlib
                if not is_known(name) or name in self.taken:
                    value = LINK.ask("name", name)
                    if type(value) is Ours and value._kind in ("class", "function"):
                        value = self[name] = CODEC.proxy(value._number, value._kind, constructs=name[:1].isupper())
                    return value
                if hasattr(builtins, name): raise KeyError(name)
                try:
                    if name in WHERE: return getattr(importlib.import_module(WHERE[name]), name)
                    return importlib.import_module(ALIASES.get(name, name))
                except (ImportError, AttributeError): raise KeyError(name) from None


        def loaded_names(code):
            import dis
            names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
            for constant in code.co_consts:
                if isinstance(constant, type(code)): names |= loaded_names(constant)
            return names


        def run_tests():
            global LINK, CODEC
            import builtins, io, types
            token, verdict = RUN.pop("token"), os.dup(1)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)

            def end(word, text=""):
                os.write(verdict, json.dumps([token, word, str(text)[:2000]]).encode())
                os._exit(0)

            names = Names({"__name__": "__main__", "__builtins__": builtins})
            try:
                code = compile(RUN["tests"], "tests.py", "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error: end("broken", "the test is no Python: %s" % error)
            started()
            CODEC = TestsCodec()
            LINK = Link(CODEC, answer_program)
            LINK.on_output = lambda text: sys.stdout.write(text) if type(text) is str else None
            sys.argv, sys.stdin, sys.stdout = ["tests.py"], io.StringIO(""), io.StringIO()
            try:
                message = LINK.receive()
                while "ask" in message:
                    LINK.reply(message)
                    message = LINK.receive()
                if "error" in message: raise CODEC.error(message["error"])
                used = loaded_names(code)
                # A function under test may be called as one of Python's: where the tests use no other of its names.
                own, alike = [], []
                for name in used - set(names):
                    try: LINK.ask("name", name)
                    except KeyError: continue
                    (alike if is_known(name) else own).append(name)
                if len(alike) == 1 and not own: names.taken = frozenset(alike)
                # In the body of a class Python looks a name up without asking for what is missing.
                for name in own + alike: names[name] if own or name in names.taken else None
                class Module(types.ModuleType):
                    def __getattr__(self, name):
                        try: return names[name]
                        except KeyError: raise AttributeError(name) from None
                    def __dir__(self): return list(names)
                sys.modules["__main__"] = Module("__main__")
                exec(code, names)
                run_collected(code, names)
            except ProgramExit: end("fail", "the program ended during the tests")
            except SystemExit as error:
                if error.code in (None, 0): end("pass")
                end("fail", "the tests ended with %s" % (error.code,))
            except BaseException as error:
                try: text = str(error)
                except BaseException: text = ""
                end("fail", "%s: %s" % (type(error).__name__, text))
            end("pass")


        def run_collected(code, names):
            """Test cases and functions that the tests define and do not run themselves."""
            import dis
            if "unittest" in sys.modules:
                import unittest
                for case in list(names.values()):
                    if type(case) is not type or not issubclass(case, unittest.TestCase): continue
                    if case.__module__ != "__main__": continue
                    result = unittest.TestResult()
                    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
                    for _, text in result.errors + result.failures: raise AssertionError(text[-1500:])
                    if result.unexpectedSuccesses: raise AssertionError("an unexpected success")
            functions = [n for n, v in list(names.items()) if n.startswith("test") and type(v).__name__ == "function"]
            if not functions: return
            called = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_NAME"}
            for name in functions:
                if name not in called and names[name].__code__.co_argcount == 0: names[name]()
        """#
}

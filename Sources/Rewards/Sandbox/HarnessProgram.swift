// SPDX-License-Identifier: Apache-2.0

/// The program's side of its tests: offers its names, runs what the tests ask for.
enum HarnessProgram {
    static let source = #"""
        # The program's side: its objects for the tests, and the tests' objects for it.


        class Theirs:
            """An object of the tests, in the program."""

            def __init__(self, number): object.__setattr__(self, "_number", number)

            def __getattr__(self, name):
                if name.startswith("_"): raise AttributeError(name)
                return LINK.ask("getattr", self, name)

            def __setattr__(self, name, value): LINK.ask("setattr", self, name, value)
            def __call__(self, *args, **names): return LINK.ask("call", self, args, names)
            def __iter__(self): return LINK.ask("iter", self)
            def __next__(self): return LINK.ask("next", self)
            def __len__(self): return LINK.ask("len", self)
            def __bool__(self): return LINK.ask("bool", self)
            def __hash__(self): return LINK.ask("hash", self)
            def __str__(self): return LINK.ask("str", self)
            def __repr__(self): return LINK.ask("repr", self)
            def __getitem__(self, key): return LINK.ask("getitem", self, key)
            def __setitem__(self, key, value): LINK.ask("setitem", self, key, value)
            def __contains__(self, value): return LINK.ask("contains", self, value)
            def __eq__(self, other): return LINK.ask("eq", self, other)
            def __lt__(self, other): return LINK.ask("lt", self, other)
            def __gt__(self, other): return LINK.ask("gt", self, other)


        def kind_of(value):
            import types
            if isinstance(value, type): return "exception" if issubclass(value, BaseException) else "class"
            if isinstance(value, types.CoroutineType): return "coroutine"
            if isinstance(value, types.GeneratorType): return "generator"
            if isinstance(value, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)): return "function"
            return "instance"


        def bases_of(kind):
            """Where an exception's class comes from: its own classes as handles, the first of Python's by name."""
            bases = []
            for base in kind.__mro__:
                if base.__module__ == "builtins": return [*bases, base.__name__]
                bases.append([PROGRAM_CODEC.export(base), base.__name__])
            return bases


        class ProgramCodec(Codec):
            def other(self, value):
                if type(value) is Theirs: return ["m", object.__getattribute__(value, "_number")]
                kind = type(value)
                data = data_of(value)
                # What libraries derive from data is data; what the program derives is its own.
                if data is not value and kind.__module__ != "program": return ["w", self.encode([data])[0]]
                module = getattr(value, "__module__", None)
                if kind is type and module in ("builtins", "collections", "datetime", "decimal", "fractions"):
                    return ["x", module, value.__name__]
                info = {"kind": kind_of(value)}
                if info["kind"] == "exception": info["bases"] = bases_of(value)
                return ["h", self.export(value), info]

            def received(self, node):
                if node[0] == "h": return Theirs(node[1])
                raise Broken("a value that is none")

            def failure(self, error):
                arguments = []
                for value in getattr(error, "args", ()):
                    try: arguments.append(self.encode([value])[0])
                    except Exception: arguments.append(self.encode([None])[0])
                try: text = str(error)
                except Exception: text = ""
                return {"bases": bases_of(type(error)), "args": arguments, "text": text[:4096]}

            def error(self, failure):
                import builtins
                kind = getattr(builtins, str(failure["bases"][-1]), Exception)
                return kind(failure["text"])


        def data_of(value):
            """The content of what is derived from a type of data; everything else as it is."""
            for kind in (bool, int, float, complex, str, bytes, bytearray):
                if isinstance(value, kind): return str.__str__(value) if kind is str else kind.__new__(kind, value)
            for kind in (list, set, frozenset):
                if isinstance(value, kind): return kind(kind.__iter__(value))
            if isinstance(value, dict): return dict(dict.items(value))
            if isinstance(value, tuple): return tuple(tuple.__iter__(value))
            for kind in (type({}.keys()), type({}.values()), type({}.items())):
                if type(value) is kind: return list(value)
            return value


        def answer_tests(operation, values):
            import operator
            if operation == "name":
                if values[0] not in NAMESPACE: raise KeyError(values[0])
                return NAMESPACE[values[0]]
            if operation == "call": return values[0](*values[1], **values[2])
            if operation == "data":
                data = data_of(values[0])
                if data is values[0]: raise TypeError("no data")
                return data
            if operation == "await":
                import asyncio
                async def run(): return await values[0]
                return asyncio.run(run())
            if operation == "isinstance": return isinstance(values[0], values[1])
            if operation in ("eq", "lt", "le", "gt", "ge", "contains", "getitem", "setitem", "delitem"):
                return getattr(operator, operation)(*values)
            if operation in ("getattr", "setattr", "delattr", "iter", "next", "len", "bool", "hash", "str", "repr",
                             "int", "float", "abs", "round", "reversed", "format"):
                import builtins
                return getattr(builtins, operation)(*values)
            if operation == "unary": return getattr(operator, values[0])(values[1])
            if operation == "binary": return getattr(operator, values[0])(values[1], values[2])
            raise TypeError(operation)


        def run_for_tests():
            global LINK, PROGRAM_CODEC, NAMESPACE
            import builtins, io, types

            class Printed(io.RawIOBase):
                parts = []
                def writable(self): return True
                def write(self, data):
                    self.parts.append(bytes(data))
                    return len(data)

            raw = Printed()
            output = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="replace", write_through=True)

            def printed():
                try: output.flush()
                except ValueError: pass
                text = b"".join(raw.parts).decode("utf-8", "replace")
                raw.parts.clear()
                return text

            PROGRAM_CODEC = ProgramCodec()
            LINK = Link(PROGRAM_CODEC, answer_tests)
            LINK.printed = printed
            source = RUN["source"]
            module = types.ModuleType("program")
            sys.modules["program"] = module
            NAMESPACE = module.__dict__
            sys.argv = ["program.py"]
            link = LINK
            started()
            sys.stdout = output
            builtins.input = lambda prompt="": link.ask("input", prompt)
            try:
                exec(load(source, NAMESPACE), NAMESPACE)
                link.send({"n": [], "v": [None]})
            except Broken: os._exit(1)
            except BaseException as error: link.send({"error": PROGRAM_CODEC.failure(error)})
            while True:
                try: link.reply(link.receive())
                except Broken: os._exit(0)
        """#
}

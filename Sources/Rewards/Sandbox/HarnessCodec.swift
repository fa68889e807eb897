// SPDX-License-Identifier: Apache-2.0

/// The Python that carries values between a program and its tests, which run in two sandboxes. Values cross as data;
/// what is not data stays where it is and gets a handle.
enum HarnessCodec {
    static let source = #"""
        # Values as data: a flat list of nodes, in which numbers, texts and truth values stand for themselves and
        # everything else is a list of one number, its node. What is not data stays where it is; the other side gets a
        # handle.
        SCALARS = (type(None), bool, float, str)
        MESSAGE_BYTES = 64 << 20


        class Broken(BaseException):
            """The other side ended or does not keep to the rules."""


        class Codec:
            def __init__(self):
                self.exported = []
                self.numbers = {}

            def export(self, value):
                number = self.numbers.get(id(value))
                if number is None:
                    number = self.numbers[id(value)] = len(self.exported)
                    self.exported.append(value)
                return number

            def encode(self, values, returned=()):
                """`returned`: containers of a call, by their places in it: they go back as they are now.
                - Returns: the message, and the containers in it that may be changed, by their places."""
                nodes, places, keep, containers, queue = [], {}, [], {}, []
                returned = {id(container): (place, container) for place, container in returned}

                def reference(value):
                    kind = type(value)
                    if kind in SCALARS or kind is int and -(1 << 63) < value < 1 << 64: return value
                    place = places.get(id(value))
                    return [emit(value) if place is None else place]

                def emit(value):
                    kind = type(value)
                    if kind is tuple: node = ["t", [reference(v) for v in value]]
                    elif kind is frozenset: node = ["f", [reference(v) for v in value]]
                    elif self.is_record(value):
                        node = ["n", kind.__name__, list(kind._fields), [reference(v) for v in value]]
                    elif self.letter(kind):
                        # Filled later, without recursion: lists may lie in lists a million times.
                        node = [self.letter(kind)]
                        queue.append((node, value))
                        containers[len(nodes)] = value
                    else: node = self.leaf(value)
                    places[id(value)] = len(nodes)
                    keep.append(value)
                    nodes.append(node)
                    return places[id(value)]

                references = [reference(value) for value in values]
                for _, container in returned.values(): reference(container)
                while queue:
                    node, value = queue.pop()
                    letter = node[0]
                    if letter == "B": node.append(value.hex())
                    elif letter in "doCe": node.append([[reference(k), reference(v)] for k, v in value.items()])
                    else: node.append([reference(v) for v in list(value)])
                    if letter == "q": node.append(value.maxlen)
                    if letter == "e": node.append(reference(value.default_factory))
                    if id(value) in returned: node.append({"place": returned[id(value)][0]})
                return {"n": nodes, "v": references}, containers

            CONTAINERS = {list: "l", set: "s", dict: "d", bytearray: "B"}

            def letter(self, kind):
                collections = sys.modules.get("collections")
                if kind in self.CONTAINERS or collections is None: return self.CONTAINERS.get(kind)
                return {collections.deque: "q", collections.OrderedDict: "o", collections.Counter: "C",
                        collections.defaultdict: "e"}.get(kind)

            @staticmethod
            def is_record(value):
                return isinstance(value, tuple) and type(value) is not tuple and hasattr(type(value), "_fields")

            def leaf(self, value):
                kind = type(value)
                if kind is int: return ["I", hex(value)]
                if kind is bytes: return ["b", value.hex()]
                if kind is complex: return ["c", repr(value.real), repr(value.imag)]
                if kind is range: return ["r", hex(value.start), hex(value.stop), hex(value.step)]
                if kind is slice:
                    return ["S", *[None if v is None else hex(v) for v in (value.start, value.stop, value.step)]]
                if value is Ellipsis: return ["E"]
                if value is NotImplemented: return ["N"]
                module, name = kind.__module__, kind.__name__
                if module == "fractions": return ["Q", hex(value.numerator), hex(value.denominator)]
                if module == "decimal" and name == "Decimal": return ["M", str(value)]
                if module == "datetime" and name in ("date", "datetime", "time"):
                    if getattr(value, "tzinfo", None) is None: return ["D", name, value.isoformat()]
                if module == "datetime" and name == "timedelta":
                    return ["D", name, [value.days, value.seconds, value.microseconds]]
                if module == "numpy" and hasattr(value, "tolist") and name != "dtype":
                    return ["J", json.dumps(value.tolist()), name == "ndarray" and value.dtype.str]
                return self.other(value)

            def decode(self, message, arguments={}):
                """`arguments`: containers of a call, by place: they take what comes back of them.
                - Returns: the values, and all containers with their places."""
                nodes, made, fill = message["n"], [], []

                def value(reference):
                    if type(reference) is not list: return reference
                    return made[reference[0]]

                for place, node in enumerate(nodes):
                    letter = node[0]
                    if not isinstance(letter, str) or len(letter) != 1: raise Broken("a value that is none")
                    if letter in "lsdoCeqB":
                        known = arguments.get(node[-1]["place"]) if type(node[-1]) is dict else None
                        if known is not None: made.append(known)
                        elif letter == "l": made.append([])
                        elif letter == "s": made.append(set())
                        elif letter == "d": made.append({})
                        elif letter == "B": made.append(bytearray())
                        else:
                            import collections
                            if letter == "q": made.append(collections.deque(maxlen=node[2]))
                            else: made.append({"o": collections.OrderedDict, "C": collections.Counter,
                                               "e": collections.defaultdict}[letter]())
                        fill.append((made[-1], node, place))
                    elif letter == "t": made.append(tuple([value(v) for v in node[1]]))
                    elif letter == "f": made.append(frozenset([value(v) for v in node[1]]))
                    elif letter == "n":
                        import collections
                        made.append(collections.namedtuple(node[1], node[2])(*[value(v) for v in node[3]]))
                    else: made.append(self.made(letter, node))
                for container, node, _ in fill:
                    letter = node[0]
                    if letter == "l": container[:] = [value(v) for v in node[1]]
                    elif letter == "B": container[:] = bytes.fromhex(node[1])
                    elif letter == "q":
                        container.clear()
                        container.extend([value(v) for v in node[1]])
                    elif letter == "s":
                        container.clear()
                        container.update([value(v) for v in node[1]])
                    else:
                        container.clear()
                        for k, v in node[1]: container[value(k)] = value(v)
                        if letter == "e": container.default_factory = value(node[2])
                return [value(v) for v in message["v"]], [(place, container) for container, _, place in fill]

            def made(self, letter, node):
                if letter == "I": return int(node[1], 16)
                if letter == "b": return bytes.fromhex(node[1])
                if letter == "c": return complex(float(node[1]), float(node[2]))
                if letter == "r": return range(*[int(v, 16) for v in node[1:4]])
                if letter == "S": return slice(*[None if v is None else int(v, 16) for v in node[1:4]])
                if letter == "E": return Ellipsis
                if letter == "N": return NotImplemented
                if letter == "Q":
                    import fractions
                    return fractions.Fraction(int(node[1], 16), int(node[2], 16))
                if letter == "M":
                    import decimal
                    return decimal.Decimal(node[1])
                if letter == "D":
                    import datetime
                    if node[1] == "timedelta": return datetime.timedelta(*[int(v) for v in node[2]])
                    kinds = {"date": datetime.date, "datetime": datetime.datetime, "time": datetime.time}
                    return kinds[node[1]].fromisoformat(node[2])
                if letter == "J":
                    value = json.loads(node[1])
                    if not node[2]: return value
                    import numpy
                    return numpy.array(value, dtype=str(node[2]))
                if letter == "m": return self.exported[node[1]]
                if letter == "x":
                    import importlib
                    value = importlib.import_module(node[1])
                    for part in node[2].split(".") if node[2] else (): value = getattr(value, part)
                    return value
                return self.received(node)


        class Link:
            """Messages between the two sandboxes; who waits for an answer answers the other's questions meanwhile."""

            def __init__(self, codec, answer):
                self.codec, self.answer, self.descriptor = codec, answer, RUN["link"]
                self.printed = lambda: ""

            def send(self, message):
                text = self.printed()
                if text: message["out"] = text
                data = json.dumps(message).encode()
                if len(data) > MESSAGE_BYTES: raise ValueError("a value of more than 64 MiB")
                data = len(data).to_bytes(4, "little") + data
                while data:
                    try: data = data[os.write(self.descriptor, data):]
                    except OSError: raise Broken("the other side has ended") from None

            def receive(self):
                size = int.from_bytes(self.exactly(4), "little")
                if size > MESSAGE_BYTES: raise Broken("a message of more than 64 MiB")
                message = json.loads(self.exactly(size))
                if type(message) is not dict: raise Broken("a message that is none")
                return message

            def exactly(self, count):
                parts = []
                while count:
                    part = os.read(self.descriptor, min(count, 1 << 20))
                    if not part: raise Broken("the program ended during the tests")
                    parts.append(part)
                    count -= len(part)
                return b"".join(parts)

            def ask(self, operation, *values):
                message, containers = self.codec.encode(values)
                self.send({"ask": operation, **message})
                while True:
                    message = self.receive()
                    if "out" in message: self.on_output(message["out"])
                    if "ask" in message: self.reply(message)
                    elif "error" in message: raise self.codec.error(message["error"])
                    else: return self.codec.decode(message, containers)[0][0]

            def on_output(self, text): pass

            def reply(self, message):
                try:
                    values, containers = self.codec.decode(message)
                    result = self.answer(message["ask"], values)
                    message = self.codec.encode([result], containers)[0]
                except Broken: raise
                except BaseException as error: message = {"error": self.codec.failure(error)}
                self.send(message)
        """#
}

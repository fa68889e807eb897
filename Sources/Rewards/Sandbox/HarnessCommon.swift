// SPDX-License-Identifier: Apache-2.0

/// The Python around every sandboxed program: reads /run.json, prepares the names that judges of programs import
/// beforehand, says that it has started, and runs the program.
enum HarnessCommon {
    static let source = #"""
        import json, os, sys

        RUN = json.load(open("/run.json"))

        # What judges of programs import beforehand; a program gets those that it mentions and does not define.
        PRELUDE = {
            "typing": "Any Callable DefaultDict Deque Dict FrozenSet Generator Generic Hashable Iterable Iterator "
            "List Literal Mapping NamedTuple Optional Sequence Set Tuple Type TypeVar Union",
            "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
            "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
            "bisect": "bisect_left bisect_right insort insort_left insort_right",
            "itertools": "accumulate chain combinations combinations_with_replacement count cycle dropwhile groupby "
            "islice pairwise permutations product repeat starmap takewhile zip_longest",
            "functools": "cache cmp_to_key lru_cache partial reduce total_ordering wraps",
            "math": "ceil comb dist factorial floor gcd hypot inf isqrt lcm log log10 log2 perm pi prod sqrt",
            "copy": "deepcopy",
            "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
        }
        MODULES = ("bisect collections copy datetime functools heapq itertools json math operator random re statistics "
                   "string sys")
        WHERE = {name: module for module, names in PRELUDE.items() for name in names.split()}


        def names_of(code):
            names = set(code.co_names)
            for constant in code.co_consts:
                if isinstance(constant, type(code)): names |= names_of(constant)
            return names


        def load(source, namespace):
            """Compiles a program and gives it the names above."""
            import importlib
            code = compile(source, "program.py", "exec", dont_inherit=True)
            used = names_of(code)
            for module in used.intersection(MODULES.split()): namespace[module] = importlib.import_module(module)
            for name in used.intersection(WHERE):
                value = getattr(importlib.import_module(WHERE[name]), name, None)
                if value is not None: namespace[name] = value
            return code


        def limit_threads():
            try:
                import resource
                # Since Linux 5.14 what is in this sandbox counts; before, all of the user's threads would.
                if tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (5, 14):
                    resource.setrlimit(resource.RLIMIT_NPROC, (RUN["threads"], RUN["threads"]))
            except (ImportError, ValueError, OSError): pass


        def started():
            """Tells the parent that what follows is the program's doing."""
            limit_threads()
            os.write(RUN["marker"], b"1")
            os.close(RUN["marker"])


        def run_alone():
            source = RUN["source"]
            namespace = sys.modules["__main__"].__dict__
            fresh = {"__name__": "__main__", "__builtins__": __builtins__, "__doc__": None, "__file__": "program.py"}
            started()
            sys.argv = ["program.py"]
            try:
                code = load(source, fresh)
                namespace.clear()
                namespace.update(fresh)
                exec(code, namespace)
            except SystemExit: raise
            except BaseException as error:
                import linecache, sys as system
                linecache.cache["program.py"] = (len(source), None, source.splitlines(True), "program.py")
                # Without the lines of this file.
                system.excepthook(type(error), error, error.__traceback__.tb_next)
                system.exit(1)
        """#
}

# ruff: noqa: E501
"""Small scripts that keep state outside of objects: the module `helper` that each imports, what stands before the loop,
and its body. Each has added something to `world.total` in every round that depends on the rounds before."""

from __future__ import annotations

#: Exact after a kill, without a word.
EXACT = {
    # -- variables of modules
    "a variable of another module": ("count = 0", "", "helper.count += 1\nadd(helper.count)"),
    "a variable that its own function changes": (
        "count = 0\ndef bump():\n    global count\n    count += 1\n    return count",
        "", "add(helper.bump())",
    ),
    "a variable that a function makes": (
        "def bump():\n    global made\n    made = globals().get('made', 0) + 1\n    return made", "", "add(helper.bump())",
    ),
    "a variable of the script that a function changes": (
        "", "count = 0\ndef bump():\n    global count\n    count += 1\n    return count", "add(bump())",
    ),
    "a list": ("seen = []\ndef grow():\n    seen.append(1)\n    return len(seen)", "", "add(helper.grow())"),
    "a dict that a function was imported for": (
        "table = {}\ndef visit(n):\n    table[n] = table.get(n, 0) + 1\n    return table[n]",
        "from helper import visit", "add(visit(step % 3))",
    ),
    "a defaultdict of lists": (
        "import collections\ntable = collections.defaultdict(list)", "",
        "helper.table[step % 2].append(step)\nadd(sum(helper.table[0]))",
    ),
    "something deep inside": (
        "table = {'a': [{'b': 0}]}", "", "helper.table['a'][0]['b'] += 1\nadd(helper.table['a'][0]['b'])",
    ),
    "a deque": ("import collections\nlast = collections.deque([0], 3)", "", "helper.last.append(step)\nadd(sum(helper.last))"),
    "a set": ("seen = set()", "", "helper.seen.add(step)\nadd(len(helper.seen))"),
    "an array": ("import numpy as np\nx = np.zeros(3)", "", "helper.x[step % 3] += 1\nadd(helper.x @ [1, 2, 4])"),
    "a large array": ("import numpy as np\nx = np.zeros(9_000)", "", "helper.x[step % 9_000] += 1\nadd(helper.x.sum())"),
    "an array of objects": (
        "import numpy as np\nx = np.array([[0], None], dtype=object)", "", "helper.x[0].append(1)\nadd(len(helper.x[0]))",
    ),
    "a tensor": ("import torch\nx = torch.zeros(2_000)", "", "helper.x.add_(1)\nadd(float(helper.x.sum()))"),
    "a generator of random numbers": (
        "import numpy as np\nrng = np.random.default_rng(3)", "", "add(helper.rng.random())",
    ),
    "Python's own kind of generator": ("import random\nrng = random.Random(3)", "", "add(helper.rng.random())"),
    "an object": (
        "class Meter:\n    def __init__(self): self.n, self.seen = 0, []\nmeter = Meter()", "",
        "helper.meter.n += 1\nhelper.meter.seen.append(step)\nadd(helper.meter.n + sum(helper.meter.seen))",
    ),
    "an object that is bound anew": (
        "class Meter:\n    def __init__(self, n): self.n = n\nmeter = Meter(0)", "",
        "helper.meter = helper.Meter(helper.meter.n + 1)\nadd(helper.meter.n)",
    ),
    "an object with slots": (
        "class Meter:\n    __slots__ = ('n',)\nmeter = Meter()\nmeter.n = 0", "", "helper.meter.n += 1\nadd(helper.meter.n)",
    ),
    "a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass Args:\n    lr: float = 1.0\nargs = Args()", "",
        "helper.args.lr *= 0.5\nadd(helper.args.lr)",
    ),
    "an iterator of itertools": ("import itertools\nit = itertools.count()", "", "add(next(helper.it))"),
    "a loader's iterator that is bound anew": (
        "", "import torch\ntorch.manual_seed(3)\nloader = torch.utils.data.DataLoader(torch.arange(12.0), 5, shuffle=True)\n"
        "batches = iter(loader)",
        "try: batch = next(batches)\nexcept StopIteration:\n    batches = iter(loader)\n    batch = next(batches)\nadd(batch[0])",
    ),
    "a loader's iterator that is made in the loop": (
        "", "import torch\ntorch.manual_seed(3)\ndata = torch.utils.data.TensorDataset(torch.arange(12.0))\n"
        "loader = torch.utils.data.DataLoader(data, 2, shuffle=True)\nbatches = None",
        "batches = batches or iter(loader)\nbatch = next(batches, None)\nif batch is None: batches = None\nelse: add(batch[0][0])",
    ),
    "attributes of a tensor": (
        "import torch\nweight = torch.zeros(2)\nweight.seen = 0", "", "helper.weight.seen += step\nadd(helper.weight.seen)",
    ),
    "a network that no world holds": (
        "import torch\ntorch.manual_seed(0)\nnet = torch.nn.Linear(2, 1)\n"
        "opt = torch.optim.Adam(net.parameters(), 0.1)\ndef train():\n    opt.zero_grad()\n"
        "    net(torch.ones(2)).sum().backward()\n    opt.step()\n    return net.bias.item()",
        "", "add(helper.train())",
    ),
    "a schedule of an optimizer that the world holds": (
        "", "import torch\nnet = torch.nn.Linear(1, 1)\nopt = torch.optim.SGD(net.parameters(), 1.0)\nworld.opt = opt\n"
        "schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda n: 1 / (1 + n))",
        "opt.step()\nschedule.step()\nadd(schedule.get_last_lr()[0])",
    ),
    "a function in its place": (
        "def one(): return 1\ndef two(): return 2\nreward = one", "",
        "add(helper.reward())\nif step == 3: helper.reward = helper.two",
    ),
    "a value that is None at first": ("last = None", "", "add(helper.last or 0)\nhelper.last = step"),
    "an enumeration": (
        "import enum\nclass Mode(enum.Enum):\n    A = 1\n    B = 2\nmode = Mode.A", "",
        "add(helper.mode.value)\nif step == 3: helper.mode = helper.Mode.B",
    ),
    "a number that stays as large as it was": ("n = 3", "", "add(helper.n)\nhelper.n = 5 - helper.n"),
    "bytes that can change": ("x = bytearray(2)", "", "helper.x[0] += 1\nadd(helper.x[0])"),
    # -- attributes of classes
    "an attribute of a class": ("class Meter:\n    total = 0", "", "helper.Meter.total += 1\nadd(helper.Meter.total)"),
    "a class of the script": ("", "class Meter:\n    total = 0", "Meter.total += 1\nadd(Meter.total)"),
    "a list of a class": ("class Meter:\n    seen = []", "", "helper.Meter.seen.append(1)\nadd(len(helper.Meter.seen))"),
    "a counter of instances": (
        "class Node:\n    made = 0\n    def __init__(self): Node.made += 1; self.id = Node.made", "", "add(helper.Node().id)",
    ),
    "a counter of a class method": (
        "class Ids:\n    last = 0\n    @classmethod\n    def next(cls):\n        cls.last += 1\n        return cls.last",
        "", "add(helper.Ids.next())",
    ),
    "an attribute that a subclass gets": (
        "class A:\n    n = 0\nclass B(A): pass", "", "helper.B.n += 1\nadd(helper.B.n + 10 * helper.A.n)",
    ),
    "a class in a class": ("class A:\n    class B:\n        n = 0", "", "helper.A.B.n += 1\nadd(helper.A.B.n)"),
    "a singleton": (
        "class One:\n    made = None\n    @classmethod\n    def get(cls):\n        if cls.made is None: cls.made = cls()\n"
        "        return cls.made\n    def __init__(self): self.n = 0",
        "", "helper.One.get().n += 1\nadd(helper.One.get().n)",
    ),
    "a class with a metaclass": (
        "class Meta(type):\n    def __setattr__(cls, name, value): type.__setattr__(cls, name, value)\n"
        "class A(metaclass=Meta):\n    n = 0",
        "", "helper.A.n += 1\nadd(helper.A.n)",
    ),
    "a generator of a class": (
        "import numpy as np\nclass Noise:\n    rng = np.random.default_rng(1)\n    def draw(self): return self.rng.normal()",
        "", "add(helper.Noise().draw())",
    ),
    # -- default arguments, attributes of functions
    "a list as a default argument": ("def f(x=[]):\n    x.append(1)\n    return len(x)", "", "add(helper.f())"),
    "a dict as a default argument": ("def f(n, x={}):\n    x[n] = x.get(n, 0) + 1\n    return x[n]", "", "add(helper.f(step % 2))"),
    "a default argument by name": ("def f(*, x=[0]):\n    x[0] += 1\n    return x[0]", "", "add(helper.f())"),
    "a default argument of a method": (
        "class A:\n    def f(self, x=[]):\n        x.append(1)\n        return len(x)", "", "add(helper.A().f())",
    ),
    "default arguments that are replaced": (
        "def f(x=1): return x", "", "add(helper.f())\nhelper.f.__defaults__ = (helper.f() + 1,)",
    ),
    "default arguments by name that are replaced": (
        "def f(*, x=1): return x", "", "add(helper.f())\nhelper.f.__kwdefaults__ = {'x': helper.f() + 1}",
    ),
    "an attribute of a function": (
        "def f():\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n", "", "add(helper.f())",
    ),
    "an attribute that a function has already": ("def f():\n    f.n += 1\n    return f.n\nf.n = 0", "", "add(helper.f())"),
    "a list that a function has": ("def f():\n    f.x.append(1)\n    return len(f.x)\nf.x = []", "", "add(helper.f())"),
    "a counter that a decorator keeps": (
        "def counted(g):\n    def inner():\n        inner.calls += 1\n        return g() + inner.calls\n    inner.calls = 0\n"
        "    return inner\n@counted\ndef f(): return 1",
        "", "add(helper.f())",
    ),
    # -- closures
    "a closure": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\nf = make()",
        "", "add(helper.f())",
    ),
    "two closures over one variable": (
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n    def get(): return n\n    return up, get\n"
        "up, get = make()",
        "", "helper.up()\nadd(helper.get())",
    ),
    "a closure in the script": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f",
        "f = helper.make()", "add(f())",
    ),
    "two closures of one function": (
        "def make(n):\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\n"
        "fs = {'a': make(0), 'b': make(10)}",
        "", "add(helper.fs['a']() + (helper.fs['b']() if step % 2 else 0))",
    ),
    "a list in a closure": (
        "def make():\n    seen = []\n    def f():\n        seen.append(1)\n        return len(seen)\n    return f\nf = make()",
        "", "add(helper.f())",
    ),
    "a generator of random numbers in a closure": (
        "import numpy as np\ndef make():\n    rng = np.random.default_rng(4)\n    return lambda: rng.random()\nf = make()",
        "", "add(helper.f())",
    ),
    "a closure in a closure": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\n"
        "def twice(g): return lambda: 2 * g()\nf = twice(make())",
        "", "add(helper.f())",
    ),
    "a decorated function": (
        "import functools\ndef counted(g):\n    n = 0\n    @functools.wraps(g)\n    def inner():\n        nonlocal n\n        n += 1\n"
        "        return g() + n\n    return inner\n@counted\ndef f(): return 1",
        "", "add(helper.f())",
    ),
    "a default argument and an attribute of a decorated function": (
        "def same(g):\n    def inner(): return g()\n    return inner\n"
        "@same\ndef f(x=[]):\n    x.append(1)\n    f.n = getattr(f, 'n', 0) + 1\n    return len(x) + f.n",
        "", "add(helper.f())",
    ),
    "a method that a decorator has wrapped": (
        "def counted(g):\n    n = 0\n    def inner(self):\n        nonlocal n\n        n += 1\n        return g(self) + n\n    return inner\n"
        "class A:\n    @counted\n    def f(self): return 1",
        "", "add(helper.A().f())",
    ),
    "a partial of a closure": (
        "import functools\ndef make():\n    n = 0\n    def f(k):\n        nonlocal n\n        n += k\n        return n\n    return f\n"
        "f = functools.partial(make(), 2)",
        "", "add(helper.f())",
    ),
    "a closure that an object has": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\n"
        "class Box:\n    def __init__(self): self.f = make()\nbox = Box()",
        "", "add(helper.box.f())",
    ),
    "a closure that an object of the world has": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\n"
        "class Box:\n    def __init__(self): self.f = make()",
        "world.box = helper.Box()", "add(world.box.f())",
    ),
    "a list in a closure that an object of the world has": (
        "def make():\n    seen = []\n    def f():\n        seen.append(1)\n        return len(seen)\n    return f\n"
        "class Box:\n    def __init__(self): self.f = make()",
        "world.box = helper.Box()", "add(world.box.f())",
    ),
    "random numbers in a closure that an object of the world has": (
        "import numpy as np\ndef make():\n    rng = np.random.default_rng(4)\n    return lambda: rng.random()\n"
        "class Box:\n    def __init__(self): self.f = make()",
        "world.box = helper.Box()", "add(world.box.f())",
    ),
    "a schedule of epsilon": (
        "def schedule(start, factor):\n    now = start\n    def f():\n        nonlocal now\n        now = max(0.05, now * factor)\n"
        "        return now\n    return f",
        "epsilon = helper.schedule(1.0, 0.7)", "add(epsilon())",
    ),
    # -- caches
    "a cache of what was drawn": (
        "import functools, random\nrng = random.Random(1)\n@functools.lru_cache\ndef f(n): return rng.random()", "",
        "add(helper.f(step % 3))",
    ),
    "a cache without a limit": (
        "import functools, random\nrng = random.Random(1)\n@functools.cache\ndef f(n, *, k=0): return rng.random()", "",
        "add(helper.f(step % 3) + helper.f(1, k=step % 2) + helper.f('a'))",
    ),
    "a cache with a limit": (
        "import functools, random\nrng = random.Random(1)\n@functools.lru_cache(2)\ndef f(n): return rng.random()", "",
        "add(helper.f(step % 2) + (helper.f(2) if step % 3 else 0))",
    ),
    "a cache by types": (
        "import functools, random\nrng = random.Random(1)\n@functools.lru_cache(typed=True)\ndef f(n, k=0): return rng.random()",
        "", "add(helper.f(1) + helper.f(1.0) + helper.f(True, k=1) + helper.f(1, k=1.0))",
    ),
    "a cached object": (
        "import functools\n@functools.cache\ndef stats(): return {'n': 0}", "", "helper.stats()['n'] += 1\nadd(helper.stats()['n'])",
    ),
    "a cached object that set-up has made": (
        "import functools\nclass Stats: n = 0\n@functools.lru_cache\ndef stats(): return Stats()", "helper.stats()",
        "helper.stats().n += 1\nadd(helper.stats().n)",
    ),
    "a cache of a closure": (
        "import functools, random\nrng = random.Random(1)\ndef make(k):\n    @functools.cache\n    def f(n): return k + rng.random()\n"
        "    return f\nf = make(2)",
        "", "add(helper.f(step % 2))",
    ),
    "a cache that is cleared": (
        "import functools, random\nrng = random.Random(1)\n@functools.cache\ndef f(n): return rng.random()", "",
        "if step == 4: helper.f.cache_clear()\nadd(helper.f(0))",
    ),
    # -- what is shared
    "a list that an object of the world has too": (
        "seen = []\nclass Agent:\n    def __init__(self): self.seen = seen", "world.agent = helper.Agent()",
        "helper.seen.append(step)\nadd(len(world.agent.seen))",
    ),
    "a list that an object of the world gets": (
        "seen = []\nclass Agent: seen = None", "world.agent = helper.Agent()",
        "if step == 1: world.agent.seen = helper.seen\nhelper.seen.append(step)\nadd(len(world.agent.seen or []))",
    ),
    "one list in two modules' variables": (
        "a = [0]\nb = a", "", "helper.a[0] += 1\nadd(helper.b[0])",
    ),
    "a variable that leads to another object of the world": (
        "class Env:\n    def __init__(self, n): self.n = n\ncurrent = None",
        "world.first, world.second = helper.Env(1), helper.Env(5)\nhelper.current = world.first",
        "helper.current.n += 1\nadd(helper.current.n)\nif step == 3: helper.current = world.second",
    ),
    # -- variables of a loop in a module
    "a variable that is bound anew later": ("", "alpha = 1.0", "add(alpha)\nif step >= 5: alpha = alpha * 0.5"),
    "a list that is bound anew": ("", "episode = []", "episode.append(step)\nadd(len(episode))\nif step % 5 == 4: episode = []"),
    "a variable that only the loop assigns": ("", "", "if step > 0: add(x)\nx = step"),
    "an observation": ("", "import numpy as np\nobs = np.zeros(2)", "add(obs.sum())\nobs = obs + step"),
    "an iterator that is made anew": (
        "", "it = iter([1, 2, 3])", "try: add(next(it))\nexcept StopIteration:\n    it = iter([1, 2, 3])\n    add(next(it))",
    ),
    "an object that is handed on": (
        "class Box:\n    def __init__(self): self.n = 0\ndef bump(box):\n    box.n += 1\n    return box.n", "box = helper.Box()",
        "add(helper.bump(box))",
    ),
    "a data loader": (
        "", "import torch\ntorch.manual_seed(1)\nloader = torch.utils.data.DataLoader(torch.arange(40.), batch_size=2, shuffle=True)\n"
        "batches = iter(loader)",
        "add(float(next(batches).sum()))",
    ),
}  # fmt: skip

#: Cannot be captured, or not be written back: warned of, with these words.
WARNED = {
    "a generator": ("def stream():\n    n = 0\n    while True:\n        n += 1\n        yield n\ng = stream()", "", "add(next(helper.g))", "variable g of the module helper"),
    "a generator of the loop": ("def stream():\n    n = 0\n    while True:\n        n += 1\n        yield n", "g = helper.stream()", "add(next(g))", "the variable g of"),
    "a generator of a class": ("def stream():\n    n = 0\n    while True:\n        n += 1\n        yield n\nclass A:\n    g = stream()", "", "add(next(helper.A.g))", "attribute g of the class helper.A"),
    "a generator in a list": ("def stream():\n    n = 0\n    while True:\n        n += 1\n        yield n\ngs = [stream()]", "", "add(next(helper.gs[0]))", "variable gs of the module helper"),
    "a generator in a closure": (
        "def stream():\n    n = 0\n    while True:\n        n += 1\n        yield n\ndef make():\n    g = stream()\n    return lambda: next(g)\nf = make()",
        "", "add(helper.f())", "variable g that the function helper.f closes over"),
    "a variable that is deleted": ("n = 1", "", "add(getattr(helper, 'n', 0))\nif step == 1: del helper.n", "variable n of the module helper: it was deleted"),
    "another network in its place": (
        "import torch\nnet = torch.nn.Linear(1, 1)\ndef swap():\n    global net\n    net = torch.nn.Linear(2, 1)", "",
        "add(helper.net.weight.numel())\nif step == 1: helper.swap()", "variable net of the module helper: another Linear"),
    "tensors that training goes back through": (
        "import torch\nw = torch.ones(1, requires_grad=True)\nlosses = []", "",
        "helper.losses.append(helper.w * step)\nadd(float(sum(helper.losses).detach()))", "variable losses of the module helper"),
    "a cached method that draws": (
        "import functools, random\nrng = random.Random(1)\nclass A:\n    @functools.lru_cache\n    def f(self, n): return rng.random()\na = A()",
        "", "add(helper.a.f(step % 3))", "functools.lru_cache keeps for the function helper.A.f"),
}  # fmt: skip

#: Nothing that a run depends on: not a word.
QUIET = {
    "constants, functions and classes": ("LR = 1e-3\nNAMES = ['a', 'b']\nTABLE = {1: (2, 3)}\ndef f(): return LR\nclass A: n = 1", "", "add(helper.f())"),
    "a logger": ("import logging\nlog = logging.getLogger('carriers')", "", "helper.log.debug(step)\nadd(1)"),
    "a progress bar": ("import tqdm, io\nbar = tqdm.tqdm(total=9, file=io.StringIO())", "", "helper.bar.update()\nadd(1)"),
    "a file": ("import tempfile\nout = tempfile.TemporaryFile('w')", "", "helper.out.write('x')\nadd(1)"),
    "a cached method that always returns the same": (
        "import functools\nclass A:\n    @functools.lru_cache\n    def f(self, n): return n + 1\na = A()", "", "add(helper.a.f(step))"),
    "functions for each class of argument": (
        "import functools\n@functools.singledispatch\ndef f(x): return 1\n@f.register\ndef _(x: int): return 2", "",
        "add(helper.f(step) + helper.f('a'))"),
    "a module that is imported late": ("def f():\n    import colorsys\n    return colorsys.ONE_THIRD", "", "add(helper.f())"),
    "storage that is written in full": ("", "import numpy as np\nobs = np.zeros(4)", "for t in range(4): obs[t] = step + t\nadd(obs.sum())"),
    "what a round sets first": ("", "x = 0", "x = step\nadd(x)"),
    "what the world holds under its name": (
        "", "import torch\ntorch.manual_seed(1)\nmodel = torch.nn.Linear(1, 1)\nopt = torch.optim.SGD(model.parameters(), 1.0)\nworld.model, world.opt = model, opt",
        "opt.zero_grad()\nmodel(torch.ones(1)).backward()\nopt.step()\nadd(model.bias.item())"),
    "compiled functions": (
        "class Compiled:\n    def __init__(self): self.calls = {}\n    def __call__(self, x):\n        return x\nCompiled.__module__ = 'numpy'\nf = Compiled()", "",
        "helper.f.calls[step] = 1\nadd(helper.f(1))"),
    "a lock and a thread": ("import threading\nlock = threading.Lock()", "", "with helper.lock: add(1)"),
    "a locked secret": ("api_key = 'a'", "", "helper.api_key = str(step)\nadd(1)"),
    "warnings that Python counts": (
        "import warnings\ndef f():\n    with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n        warnings.warn('x')\n    return 1",
        "", "add(helper.f())"),
}  # fmt: skip

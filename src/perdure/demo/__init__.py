"""The promise of Perdure shown on a real agent: killed again and again, it ends like one that was left alone.

`training` is the agent, `child` the process that it trains in, `contest` starts and kills such processes, `verdict`
compares what they ended with. `perdure.cli` shows it.
"""

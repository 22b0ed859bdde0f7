"""The main promise shown on a real agent: killed again and again, it ends exactly like one that was left alone.

`training` is the agent, `child` the process that it trains in, `contest` starts and kills such processes, `verdict`
compares what they ended with. What is shown of it on a screen is the business of `perdure.cli.demo`.
"""

"""
Continuous training of the weights on the traffic that they forecast.

`History` keeps rates and rows of sampled flows, `Learner` trains a challenger on them and holds
the contest; neither depends on a log or a clock. The trainer's loop and the backtest drive the
same learner.
"""

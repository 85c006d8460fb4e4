"""
Weights that go on learning from the traffic that they forecast.

`History` keeps what sampled flows did, `Learner` trains a challenger on it and holds the contest;
neither knows a log or a clock. The trainer's loop and the backtest drive the same learner.
"""

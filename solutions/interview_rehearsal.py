# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # Interview rehearsal
#
# **Can I explain it out loud, in time, under follow-ups?**
#
# The questions of the five notebooks and of the start-up around them, in English and Chinese, each with a rubric, the mistakes that candidates make, hints, a model answer of two minutes, and the notebook section where it is measured. Nothing is downloaded and nothing leaves this machine.
#
# Rehearse every day until the interview: answer aloud, type what you said, tick honestly, look at what you missed. What you have answered comes back when you are about to forget it. The terminal does the same: `make rehearse`, or `rehearse --help`; both keep one record.

# %% [markdown] id="how"
# ## How a question goes
#
# 1. **Begin** starts the clock. Say the answer aloud, then type what you said in a few sentences. It is kept as you type: after a crash it goes on where you stopped.
# 2. **Done** shows each point of the rubric beside the closest sentence of yours. *You* tick: the closest sentence may say the very opposite, so nothing is ticked for you.
# 3. The rating follows from your ticks: a must that was missed, or less than 50 % of the weight, means *again*; less than 75 %, a mistake or a hint means *hard*; less than 95 %, or too slow, *good*; else *easy*. You may override it, and undo it.
# 4. The model answer, what you missed, and a follow-up on it.

# %% id="parameters" tags=["parameters"]
LANGUAGE = "en"  # or "zh"
AREAS = []  # some of data, efficiency, overfitting, inference, interpretability, start-up; all when empty
LEVEL = ""  # junior, senior or staff; empty: the lowest level of each question
MINUTES = 30  # of a mock interview

# %% id="imports"
import random
from datetime import UTC, date, datetime

import pandas as pd
from IPython.display import HTML

from helpers.rehearsal import card, interview, open_bank, progress, rehearse, schedule, state
from helpers.rehearsal.debugging import ROUNDS
from helpers.rehearsal.drills import DRILLS

# %% [markdown] id="bank"
# ## What is asked
#
# Questions by area and kind.

# %% id="count"
bank = open_bank()
heads = pd.DataFrame([{"area": head.area, "kind": head.kind, "minutes": head.minutes} for head in bank.values()])
pd.crosstab(heads["area"], heads["kind"], margins=True, margins_name="all")

# %% [markdown] id="today"
# ## What is due today
#
# Changed questions first, then those that you are about to forget, then new ones, as far as the day's minutes go.

# %% id="rehearse"
rehearse(language=LANGUAGE, areas=AREAS, level=LEVEL)

# %% [markdown] id="seen"
# This is what it looks like after **Done**:
#
# ![A question about training data with its rubric, ticks and the rating that follows from them](../docs/rehearsal-notebook.png)

# %% [markdown] id="mock"
# ## A mock interview
#
# Warm-up, depth, estimation, debugging, a start-up question, with follow-ups on what you missed; at its end a report. Interrupted, it goes on where it stopped. At level senior unless `LEVEL` says otherwise.

# %% id="interview"
interview(language=LANGUAGE, areas=AREAS, level=LEVEL or "senior", minutes=MINUTES)

# %% [markdown] id="five"
# ## The five questions that are always asked
#
# Read them once, then close this and say them. `card(bank.question("…"), "zh")` shows any question in Chinese.

# %% id="seeds"
seeds = [name for name in bank if name.endswith("-seed")]
HTML("<br>".join(f"<b>{name}</b>: {bank.question(name).prompt.in_(LANGUAGE)}" for name in seeds))

# %% id="card"
HTML(card(bank.question(seeds[0]), LANGUAGE).value)

# %% [markdown] id="drills"
# ## Estimation drills
#
# Numbers are drawn anew each time. Type what people say: `16 GiB`, `1.2e21`, `about 3 weeks`. The answer says by which factor you were off, and how it is worked out. `rehearse drill --list` names all of them.

# %% id="drill"
problem = DRILLS["kv-cache"].draw(random.Random(4))
print(problem.prompt[LANGUAGE])

# %% id="drill-answer"
print(problem.judge("about 16 GB").message[LANGUAGE])
for line in problem.derivation:
    print("·", line[LANGUAGE])

# %% [markdown] id="debugging"
# ## A debugging round
#
# A snippet with two or more bugs that an interviewer plants. Mark lines and name the bug *before* you run the next cell.

# %% id="round"
snippet = ROUNDS["quantise-resnet"]
print(snippet.story[LANGUAGE], snippet.numbered, sep="\n\n")

# %% [markdown] id="round-how"
# Write your own marks in place of this one: `(line, "what is wrong")`.

# %% id="round-marked"
marking = snippet.mark([(1, "an import is missing")])
print(marking.summary[LANGUAGE])
for bug in snippet.bugs:
    print(f"line {', '.join(map(str, bug.lines))}: {bug.name[LANGUAGE]}. {bug.why[LANGUAGE]}")

# %% [markdown] id="plan"
# ## The days until the interview
#
# `rehearse plan --date 2027-01-15 --minutes-a-day 20` sets them. Below, the days ahead for somebody who begins on 4 January 2027, has the interview on the 15th and 40 minutes a day, and answers well: new questions and seen ones take turns, and near the end the seen ones fill the day. The last column counts the due ones for which the minutes did not suffice.

# %% id="days"
plan = state.Plan(date(2027, 1, 15), minutes_a_day=40)
days = schedule.days_ahead(bank, [], plan, now=datetime(2027, 1, 4, 12).astimezone())
columns = {"date": "day", "again": "seen before", "left_over": "no longer fits"}
pd.DataFrame(days).rename(columns=columns)

# %% [markdown] id="progress"
# ## Where you stand
#
# Your own record: the weak areas, and what comes due. Empty until you have answered something.

# %% id="stats" tags=["nbval-ignore-output"]
history = state.read()
if history.reviews:
    progress.draw(bank, history.reviews, history.plan, now=datetime.now(UTC));
else:
    print("No question was answered yet.")

# %% [markdown] id="elsewhere"
# ## On the phone, and for others
#
# `rehearse export anki interview.apkg` writes all questions as an Anki package in both languages; importing it again makes no duplicates, and updates the questions whose meaning has changed. To add or mend a question see `CONTRIBUTING.md`; `rehearse validate` checks the bank.

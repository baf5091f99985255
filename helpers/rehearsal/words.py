"""What the front ends say, in English and Chinese."""

from __future__ import annotations

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "aloud": "Say it aloud first if you can, then type what you said in a few sentences.",
        "taken_up": "You began this answer before; it goes on where you stopped.",
        "answer_keys": "Esc then Enter: done · F1: hint · Ctrl-C: stop, the answer is kept",
        "plain_end": "End the answer with a line that holds a single full stop.",
        "left": "left",
        "over": "over",
        "not_kept": "NOT KEPT",
        "hint": "Hint",
        "no_hint": "That was the last hint.",
        "points": "What a good answer says, and the closest sentence of yours (close words may still be wrong)",
        "point": "point",
        "closest": "closest sentence of your answer",
        "must": "must",
        "bonus": "bonus at your level",
        "which_points": "Which points did you really say? Numbers such as 1 3 or 1-4, a for all, Enter for none: ",
        "mistakes": "Mistakes that candidates make here",
        "which_mistakes": "Which of them did you make? Numbers, Enter for none: ",
        "numbers": "numbers from 1 to {n}, such as 1 3 or 1-{n}, a for all, or nothing",
        "rating": "Rating: {name} ({reason}).",
        "rate": "Enter: take it · again, hard, good, easy: another · u: tick again: ",
        "ratings": "Enter, again, hard, good, easy or u",
        "again": "again",
        "hard": "hard",
        "good": "good",
        "easy": "easy",
        "missed": "You missed",
        "why": "Why it is wrong",
        "model": "Model answer",
        "references": "References",
        "notebook": "Measured in",
        "exercise": "exercise",
        "next": "Enter: next · u: undo this rating · q: stop: ",
        "next_follow": "Enter: next · f: follow-up “{prompt}” · u: undo this rating · q: stop: ",
        "nexts": "Enter, u or q",
        "nexts_follow": "Enter, f, u or q",
        "undone": "Undone. Tick again.",
        "not_saved": "Not saved: {why}",
        "try_again": "Your answer is still here. Enter: try again · q: give up this answer: ",
        "stopped": "Stopped. What you typed is kept; `rehearse` goes on there.",
        "nothing_due": "Nothing is due today: `rehearse mock` and `rehearse drill` go on; `rehearse plan` shows the days.",
        "day_done": "{n} asked. Today is done.",
        "due": "due",
        "new": "new",
        "changed": "changed since you saw it",
        "minutes": "min",
        "empty": "(no answer)",
        "recall": "Prediction that you still knew it: {share:.0%}",
    },
    "zh": {
        "aloud": "最好先开口讲一遍，再用几句话把讲过的内容打下来。",
        "taken_up": "这道题之前答到一半，从上次停下的地方继续。",
        "answer_keys": "先 Esc 再 Enter：答完 · F1：提示 · Ctrl-C：暂停，已输入的会保留",
        "plain_end": "单独一行只打一个句点，表示答完。",
        "left": "剩余",
        "over": "超时",
        "not_kept": "未保存",
        "hint": "提示",
        "no_hint": "没有更多提示了。",
        "points": "好答案应有的要点，以及你的回答里最接近的一句（用词接近不等于说对）",
        "point": "要点",
        "closest": "你的回答里最接近的一句",
        "must": "必答",
        "bonus": "超出当前级别的加分项",
        "which_points": "哪些要点你真的讲到了？输入编号，如 1 3 或 1-4；a 为全部；直接回车表示没有：",
        "mistakes": "这道题常见的错误说法",
        "which_mistakes": "你犯了哪几条？输入编号，直接回车表示没有：",
        "numbers": "1 到 {n} 的编号，如 1 3 或 1-{n}；a 为全部；或者留空",
        "rating": "评级：{name}（{reason}）。",
        "rate": "回车：接受 · again、hard、good、easy：改评级 · u：重新勾选：",
        "ratings": "回车、again、hard、good、easy 或 u",
        "again": "重来（again）",
        "hard": "勉强（hard）",
        "good": "不错（good）",
        "easy": "轻松（easy）",
        "missed": "漏掉的要点",
        "why": "错在哪里",
        "model": "参考答案",
        "references": "参考资料",
        "notebook": "实测见",
        "exercise": "练习",
        "next": "回车：下一题 · u：撤销这次评级 · q：结束：",
        "next_follow": "回车：下一题 · f：追问「{prompt}」 · u：撤销这次评级 · q：结束：",
        "nexts": "回车、u 或 q",
        "nexts_follow": "回车、f、u 或 q",
        "undone": "已撤销，请重新勾选。",
        "not_saved": "没有保存：{why}",
        "try_again": "你的回答还在。回车：再试一次 · q：放弃这次回答：",
        "stopped": "已暂停。输入的内容都保留着，再运行 rehearse 会接着来。",
        "nothing_due": "今天没有到期的题。可以用 rehearse mock 或 rehearse drill 继续；rehearse plan 查看后面几天。",
        "day_done": "共 {n} 题，今天的任务完成了。",
        "due": "到期",
        "new": "新题",
        "changed": "题目有改动",
        "minutes": "分钟",
        "empty": "（没有作答）",
        "recall": "预测你仍然记得的概率：{share:.0%}",
    },
}

REASONS_ZH = (
    ("% of the weight; a must was missed: ", "% 的权重；漏了必答要点："),
    ("% of the weight, less than ", "% 的权重，低于 "),
    ("% of the weight, and a mistake was made", "% 的权重，而且犯了错误"),
    ("% of the weight, with a hint", "% 的权重，用了提示"),
    ("% of the weight, within the time", "% 的权重，没有超时"),
)


def word(language: str, key: str, **values: object) -> str:
    """The text `key` in "en" or "zh", its places filled."""
    return WORDS[language][key].format(**values)


def reason_in(language: str, reason: str) -> str:
    """Why a rating is what it is, in the learner's language."""
    if language == "zh":
        for english, chinese in REASONS_ZH:
            reason = reason.replace(english, chinese)
        reason = reason.replace("% of the weight, but it took longer than ", "% 的权重，但用时超过 ").replace(
            " minutes", " 分钟"
        )
    return reason

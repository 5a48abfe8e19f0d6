//! The prompts that `parallel` is calibrated on: plain text that any tokenizer knows, in fragments
//! whose answers lie in one, in two, or far from the question.

use engine::gates::Sample;
use models::Turns;

/// Three fragments, and a tail that asks about them and begins to answer.
struct Prompt {
    fragments: [&'static str; 3],
    tail: &'static str,
}

/// The prompts in a model's tokens.
pub(super) fn samples(turns: &Turns) -> anyhow::Result<Vec<Sample>> {
    let part = |text: &str| turns.part(None, text);
    let sample = |prompt: &Prompt| {
        let [a, b, c] = prompt.fragments;
        let fragments = [part(a)?, part(b)?, part(c)?];
        Ok(Sample { root: turns.default_root(), fragments, tail: part(prompt.tail)? })
    };
    PROMPTS.iter().map(sample).collect()
}

const PROMPTS: [Prompt; 5] = [
    Prompt {
        fragments: [
            "The harbour office opens at eight. Boats longer than twelve metres moor at the north \
             pier, all others at the south pier, where water and power are free for the first \
             night. Whoever stays longer pays at the office, or at the machine beside it.\n",
            "The baker on the square closes on Mondays. The other baker, behind the church, is open \
             every day until noon and sells the rye bread that the island is known for. On market \
             days there is a queue by seven, and by ten the rye bread is gone.\n",
            "The walk to the lighthouse takes an hour and a half. The path follows the coast, \
             crosses two streams and climbs the last hill on wooden steps. The keeper's house is a \
             small museum now; its door is open from May to September.\n",
        ],
        tail: "Question: On which day is the baker on the square closed?\nAnswer: The baker on the \
               square is closed on Mondays; the one behind the church is open every day.",
    },
    Prompt {
        fragments: [
            "def area(width, height):\n    \"\"\"The area of a rectangle.\"\"\"\n    return width * \
             height\n\n\ndef perimeter(width, height):\n    return 2 * (width + height)\n",
            "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, \
             item):\n        self.items.append(item)\n\n    def pop(self):\n        return \
             self.items.pop()\n\n    def is_empty(self):\n        return not self.items\n",
            "def mean(numbers):\n    if not numbers:\n        raise ValueError(\"no numbers\")\n    \
             return sum(numbers) / len(numbers)\n",
        ],
        tail: "# Push three numbers on a stack, and print their mean.\nstack = Stack()\nfor number in \
               [3, 5, 10]:\n    stack.push(number)\nprint(mean(stack.items))\n",
    },
    Prompt {
        fragments: [
            "From: Vera. To: all. The review of the budget moves from Tuesday to Thursday, the same \
             time, in the large room on the second floor. Please bring the figures for the first \
             quarter; those of last year are in the shared folder.\n",
            "From: Jonas. To: Vera. On Thursday I am in Hamburg with the client until three. Could \
             we start at four, or could Amina present the figures in my place? She knows them as \
             well as I do.\n",
            "From: Vera. To: Jonas, Amina. Four it is, then. Amina, please have the slides ready \
             anyhow, in case the train is late.\n",
        ],
        tail: "Summary: The budget review is now on Thursday at four, because Jonas is with a client \
               in Hamburg until three. Amina prepares the slides in case his train is late.",
    },
    Prompt {
        fragments: [
            "The river Vell rises in the Orn mountains and flows north for three hundred kilometres \
             before it turns west at the town of Mard. Its water is used for apples and barley.\n",
            "Mard was founded by traders in 1340. Its bridge, the only one across the river for a \
             day's journey in either direction, made it rich. The town burnt down twice, and both \
             times it was built again around the bridge.\n",
            "The architect of the present bridge, Lena Ostrow, was born in Mard and studied in \
             Vienna. The bridge was finished in 1911, has five arches, and was the longest of its \
             kind for nine years.\n",
        ],
        tail: "Question: Which river does the bridge that Lena Ostrow built cross?\nAnswer: Her bridge \
               stands in Mard, so it crosses the Vell, which rises in the Orn mountains.",
    },
    Prompt {
        fragments: [
            "Lentil soup, for four: two onions, three carrots, 250 grams of lentils, a litre of \
             stock. Fry the onions until they are golden, add the carrots, then the lentils and the \
             stock. Simmer for half an hour.\n",
            "Flat bread, eight pieces: 500 grams of flour, 300 millilitres of warm water, a spoon of \
             oil, salt. Knead, let it rest for twenty minutes, roll it thin and bake it in a hot pan, \
             a minute on each side.\n",
            "Cucumber salad: slice a cucumber, salt it and let it stand for ten minutes. Pour off the \
             water; add yoghurt, garlic and mint.\n",
        ],
        tail: "To have everything ready at seven, start the soup first, since it needs half an hour. \
               While it simmers, the dough rests for twenty minutes, and the cucumber stands for ten.",
    },
];

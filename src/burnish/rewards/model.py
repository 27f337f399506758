"""A reward model's number as a reward: what people preferred, learned beforehand."""

from collections.abc import Sequence

from burnish.models.precision import chosen_dtype
from burnish.models.reward import load_reward
from burnish.rewards import Judge, Reward, Written


class ModelReward(Reward):
    """What a reward model (task `reward`) gives prompt and text together, on a scale of its own."""

    model: str

    def load(self) -> Judge:
        """Load the model, in the number format that suits this chip."""
        network = load_reward(self.model, dtype=chosen_dtype("auto"))

        def judge(texts: Sequence[Written]) -> list[float]:
            return network.score([one.prompt for one in texts], [one.text for one in texts])

        return judge
